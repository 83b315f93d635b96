//! Ctrl-C and SIGTERM, turned into a flag that a command looks at between two steps of its work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit status after a second signal: what a shell calls death by SIGINT.
const STATUS_INTERRUPTED: i32 = 130;

/// Whether the user wants the command to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the first signal only sets the flag; a second one ends the process at once.
    pub(crate) fn install() -> std::io::Result<Interrupt> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Order matters: a signal that finds the flag raised ends the process before it would raise it again.
            flag::register_conditional_shutdown(signal, STATUS_INTERRUPTED, Arc::clone(&raised))?;
            flag::register(signal, Arc::clone(&raised))?;
        }
        Ok(Interrupt(raised))
    }

    /// Whether a signal came.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

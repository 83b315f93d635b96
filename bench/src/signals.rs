//! SIGINT and SIGTERM as a question: is it time to end?

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Between two looks at whether one came.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether one of them came.
pub(crate) struct Signals {
    came: Arc<AtomicBool>,
}

impl Signals {
    /// From now on they no longer end the process.
    pub(crate) fn listen() -> io::Result<Signals> {
        let came = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The second one ends the process after all: whoever asks twice does not want to wait.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&came))?;
            signal_hook::flag::register(signal, Arc::clone(&came))?;
        }
        Ok(Signals { came })
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }

    /// Waits until one comes, for `time` at most.
    pub(crate) fn wait(&self, time: Option<Duration>) {
        let end = time.map(|time| Instant::now() + time);
        let left = || end.map_or(PAUSE, |end| end.saturating_duration_since(Instant::now()).min(PAUSE));
        while !self.came() && !left().is_zero() {
            std::thread::sleep(left());
        }
    }
}

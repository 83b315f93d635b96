//! The hot log: what is appended, on its way to the disk.
//!
//! ```text
//! append ──> blocks in memory ──> writes ──> flushes ──> sealed: footers
//!                                   zeroes go ahead of them
//! ```
//!
//! Invariants: `durable <= written <= appended`, always at ends of entries.

pub(in crate::store) mod append;
mod flushes;
mod footers;
mod writes;
mod zeroes;

use std::rc::Rc;

use crate::runtime::Runtime;
use crate::store::state::Core;

impl<R: Runtime> Core<R> {
    /// Starts the tasks of an open store.
    pub(in crate::store) fn start_tasks(self: &Rc<Self>) {
        self.runtime.spawn(Rc::clone(self).run_writes());
        self.runtime.spawn(Rc::clone(self).run_footers());
        self.runtime.spawn(Rc::clone(self).run_flushes());
        self.runtime.spawn(Rc::clone(self).run_idle_flushes());
        self.runtime.spawn(Rc::clone(self).run_preparations());
        self.runtime.spawn(Rc::clone(self).run_fills());
    }
}

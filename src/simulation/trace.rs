//! What happened in a run, folded into one number: two runs of one seed must end with the same.
//!
//! The last events are kept to be printed with a failure; `CORELANE_TRACE=1` prints all of them as they happen.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Events kept for the failure message: a screen full.
const RECENT_EVENTS_MAX: usize = 48;

/// One thing that happened: a name and up to three numbers that belong to it.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Virtual time in microseconds.
    pub at_us: u64,
    /// What happened.
    pub what: &'static str,
    /// What it happened to; the meaning depends on `what`.
    pub values: [u64; 3],
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.values;
        write!(f, "{:>12} us  {:<24} {a} {b} {c}", self.at_us, self.what)
    }
}

/// The trace of one simulation, over all its lives. Clones are the same trace.
#[derive(Clone)]
pub(super) struct Trace {
    state: Rc<RefCell<State>>,
}

struct State {
    /// FNV-1a over the words of all events so far.
    hash: u64,
    now_us: u64,
    recent: VecDeque<Event>,
    print: bool,
}

impl Trace {
    pub(super) fn new() -> Trace {
        let print = std::env::var_os("CORELANE_TRACE").is_some();
        let state =
            State { hash: 0xcbf2_9ce4_8422_2325, now_us: 0, recent: VecDeque::with_capacity(RECENT_EVENTS_MAX), print };
        Trace { state: Rc::new(RefCell::new(state)) }
    }

    /// Tells the trace the time; every event carries it.
    pub(super) fn set_now(&self, now_us: u64) {
        self.state.borrow_mut().now_us = now_us;
    }

    pub(super) fn now_us(&self) -> u64 {
        self.state.borrow().now_us
    }

    /// Adds an event worth printing.
    pub(super) fn add(&self, what: &'static str, values: [u64; 3]) {
        let mut state = self.state.borrow_mut();
        let event = Event { at_us: state.now_us, what, values };
        state.fold(&event);
        if state.print {
            eprintln!("{event}");
        }
        if state.recent.len() == RECENT_EVENTS_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back(event);
    }

    /// Adds an event that counts for the hash but would drown the others in print.
    pub(super) fn add_quietly(&self, what: &'static str, values: [u64; 3]) {
        let mut state = self.state.borrow_mut();
        let event = Event { at_us: state.now_us, what, values };
        state.fold(&event);
    }

    pub(super) fn hash(&self) -> u64 {
        self.state.borrow().hash
    }

    pub(super) fn recent(&self) -> Vec<Event> {
        self.state.borrow().recent.iter().copied().collect()
    }
}

impl State {
    fn fold(&mut self, event: &Event) {
        self.fold_word(event.at_us);
        for byte in event.what.bytes() {
            self.fold_word(u64::from(byte));
        }
        for value in event.values {
            self.fold_word(value);
        }
    }

    fn fold_word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_order_time_and_values() {
        let hash = |events: &[(u64, &'static str, u64)]| {
            let trace = Trace::new();
            for &(at_us, what, value) in events {
                trace.set_now(at_us);
                trace.add(what, [value, 0, 0]);
            }
            trace.hash()
        };
        let base = hash(&[(1, "write", 1), (2, "flush", 2)]);
        assert_eq!(base, hash(&[(1, "write", 1), (2, "flush", 2)]));
        assert_ne!(base, hash(&[(2, "flush", 2), (1, "write", 1)]));
        assert_ne!(base, hash(&[(1, "write", 1), (3, "flush", 2)]));
        assert_ne!(base, hash(&[(1, "write", 1), (2, "flush", 3)]));
    }

    #[test]
    fn recent_events_are_bounded() {
        let trace = Trace::new();
        for value in 0..1000 {
            trace.add("write", [value, 0, 0]);
        }
        assert_eq!(trace.recent().len(), RECENT_EVENTS_MAX);
        assert_eq!(trace.recent().last().unwrap().values[0], 999);
    }
}

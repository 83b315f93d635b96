//! Mutation fuzzing on stable Rust: every reader of bytes that a peer or a disk wrote, fed with damaged good input and
//! with noise. A target may answer with an error; it may not panic, run on, or hold more memory than its bounds.
//!
//! `cargo test --test fuzz` runs a few rounds per target. `CORELANE_FUZZ_ROUNDS` runs more, `CORELANE_FUZZ_SEED` begins
//! elsewhere; a failure names the seed that repeats it with one round.
//!
//! A target is a function from a [`Random`] to a check: it makes its own input, so that a new one is one more function
//! and one more test that calls [`fuzz`].

mod batches;
#[cfg(debug_assertions)]
mod frames;
#[cfg(debug_assertions)]
mod handlers;
#[cfg(debug_assertions)]
mod machine;
mod memory;
mod random;
mod recovery;
#[cfg(debug_assertions)]
mod requests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::random::Random;

/// Runs a target once per seed. The failing seed is in the panic's message.
fn fuzz(name: &str, rounds_default: u64, target: impl Fn(&mut Random)) {
    let rounds = from_environment("CORELANE_FUZZ_ROUNDS").unwrap_or(rounds_default);
    let first = from_environment("CORELANE_FUZZ_SEED").unwrap_or(1);
    for seed in first..first + rounds {
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&mut Random::new(seed))));
        if outcome.is_err() {
            panic!("fuzz target {name:?} failed: CORELANE_FUZZ_ROUNDS=1 CORELANE_FUZZ_SEED={seed} repeats it");
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

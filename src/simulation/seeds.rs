//! Which seeds a test runs: a fixed few, more or one by the environment.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The seeds of one test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seeds {
    /// The first so many, from 1.
    Count(u64),
    /// Just this one, to reproduce a failure.
    One(u64),
}

impl Seeds {
    /// `CORELANE_SEED` (one, decimal or `0x…`) before `CORELANE_SEEDS` (how many) before `count_default`.
    ///
    /// Panics when a variable is set and is not a number: a typing error must not look like a passed test.
    pub fn from_environment(count_default: u64) -> Seeds {
        let variable = |name| std::env::var(name).ok();
        Seeds::parse(variable("CORELANE_SEED"), variable("CORELANE_SEEDS"), count_default)
    }

    fn parse(one: Option<String>, count: Option<String>, count_default: u64) -> Seeds {
        match (one, count) {
            (Some(one), _) => Seeds::One(parse_number("CORELANE_SEED", &one)),
            (None, Some(count)) => Seeds::Count(parse_number("CORELANE_SEEDS", &count)),
            (None, None) => Seeds::Count(count_default),
        }
    }

    /// Runs `check` with each seed. When one panics, the seed and how to run it again are printed before the panic
    /// goes on.
    pub fn each(&self, mut check: impl FnMut(u64)) {
        let seeds = match *self {
            Seeds::Count(count) => 1..=count,
            Seeds::One(seed) => seed..=seed,
        };
        for seed in seeds {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(seed))) {
                eprintln!(
                    "seed {seed} failed; run it again with CORELANE_SEED={seed}, all events with CORELANE_TRACE=1"
                );
                resume_unwind(panic);
            }
        }
    }
}

fn parse_number(name: &str, text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|error| panic!("{name}={text} is not a number: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_goes_before_a_count() {
        let text = |text: &str| Some(text.to_string());
        assert_eq!(Seeds::parse(None, None, 5), Seeds::Count(5));
        assert_eq!(Seeds::parse(None, text("70"), 5), Seeds::Count(70));
        assert_eq!(Seeds::parse(text("0x1f"), text("70"), 5), Seeds::One(31));
    }

    #[test]
    #[should_panic(expected = "CORELANE_SEEDS=many is not a number")]
    fn rubbish_is_refused() {
        Seeds::parse(None, Some("many".to_string()), 5);
    }

    #[test]
    fn each_seed_runs_once_and_a_panic_goes_on() {
        let mut seen = Vec::new();
        Seeds::Count(3).each(|seed| seen.push(seed));
        assert_eq!(seen, [1, 2, 3]);
        assert!(catch_unwind(|| Seeds::One(9).each(|_| panic!("on purpose"))).is_err());
    }
}

//! Where `consume` begins and ends, in the words of kcat's `-o`.

use std::str::FromStr;

/// Where to begin in each partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// The oldest record there is.
    Beginning,
    /// What comes from now on.
    End,
    /// This offset.
    Offset(i64),
    /// So many records before the end, or the beginning if there are fewer.
    BeforeEnd(i64),
    /// The first record whose timestamp, in milliseconds, is not smaller.
    Time(i64),
}

/// One `-o`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bound {
    /// Where to begin.
    Start(Start),
    /// Timestamp in milliseconds of the first record not to print.
    Stop(i64),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Bound, String> {
        let complain = || {
            format!(
                "`{text}` is no offset; write beginning, end, N, -N (before the end), s@MS or e@MS (time to start, to stop)"
            )
        };
        let number = |text: &str| text.parse::<i64>().ok().filter(|&number| number >= 0).ok_or_else(complain);
        match text {
            "beginning" | "earliest" => return Ok(Bound::Start(Start::Beginning)),
            "end" | "latest" => return Ok(Bound::Start(Start::End)),
            "stored" => {
                return Err(
                    "offsets are stored for consumer groups; with -G GROUP reading starts there by itself".to_owned()
                );
            }
            _ => {}
        }
        if let Some(time) = text.strip_prefix("s@") {
            number(time).map(|time| Bound::Start(Start::Time(time)))
        } else if let Some(time) = text.strip_prefix("e@") {
            number(time).map(Bound::Stop)
        } else if let Some(count) = text.strip_prefix('-') {
            number(count).map(|count| Bound::Start(Start::BeforeEnd(count)))
        } else {
            number(text).map(|offset| Bound::Start(Start::Offset(offset)))
        }
    }
}

/// Start and stop of several `-o`; of each kind the last counts.
pub(super) fn combine(bounds: &[Bound]) -> (Option<Start>, Option<i64>) {
    let (mut start, mut stop) = (None, None);
    for bound in bounds {
        match *bound {
            Bound::Start(given) => start = Some(given),
            Bound::Stop(time) => stop = Some(time),
        }
    }
    (start, stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_for_kcat() {
        for (text, bound) in [
            ("beginning", Bound::Start(Start::Beginning)),
            ("end", Bound::Start(Start::End)),
            ("0", Bound::Start(Start::Offset(0))),
            ("9223372036854775807", Bound::Start(Start::Offset(i64::MAX))),
            ("-5", Bound::Start(Start::BeforeEnd(5))),
            ("s@1700000000000", Bound::Start(Start::Time(1_700_000_000_000))),
            ("e@7", Bound::Stop(7)),
        ] {
            assert_eq!(text.parse(), Ok(bound), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_to_write() {
        for text in ["", "-", "--5", "x", "s@", "s@-1", "e@x", "1.5", "9223372036854775808"] {
            assert!(text.parse::<Bound>().unwrap_err().contains("s@MS"), "{text}");
        }
        assert!("stored".parse::<Bound>().unwrap_err().contains("group"));
    }

    #[test]
    fn start_and_stop_go_together_and_the_last_of_each_counts() {
        let bounds = ["5", "e@9", "s@3"].map(|text| text.parse().unwrap());
        assert_eq!(combine(&bounds), (Some(Start::Time(3)), Some(9)));
        assert_eq!(combine(&[]), (None, None));
    }
}

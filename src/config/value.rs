//! One configuration value: its type as Kafka names it, the values that are allowed, and its canonical text.
//!
//! Pure. Kafka keeps and reports every value as text; a value is checked once, where it enters, and kept in the text form
//! that Kafka's `ConfigDef.convertToString` would give it.

use std::fmt;

use crate::limits::CONFIG_VALUE_BYTES_MAX;

/// The type of a configuration value. The discriminants are the `config_type` of DescribeConfigs v3+.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Any text.
    String = 2,
    /// A 32-bit integer.
    Int = 3,
    /// A 16-bit integer.
    Short = 4,
    /// A 64-bit integer.
    Long = 5,
    /// A 64-bit floating point number.
    Double = 6,
    /// Texts separated by commas.
    List = 7,
    /// The name of a class.
    Class = 8,
    /// A text that is never shown.
    Password = 9,
}

impl Kind {
    /// The number that DescribeConfigs reports.
    pub fn id(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        })
    }
}

/// Which values of a type are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Every value of the type.
    Any,
    /// Integers from this one on.
    AtLeast(i64),
    /// Integers of a closed range.
    Between(i64, i64),
    /// Integers of a closed range, and one more.
    BetweenOr(i64, i64, i64),
    /// Every integer but 0: a limit, or negative for none.
    NonZero,
    /// Numbers of the closed range 0 to 1.
    Fraction,
    /// One of these texts; in a list, any number of them.
    OneOf(&'static [&'static str]),
    /// One of these texts, in any case; it stays as it was written.
    OneOfAnyCase(&'static [&'static str]),
    /// Kafka's throttled replicas: empty, `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// Where a share group starts: `earliest`, `latest`, or `by_duration:` and a duration.
    OffsetReset,
}

/// Why a value was refused, without the name of its key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(String);

impl BadValue {
    /// A reason of the caller's own.
    pub fn new(reason: impl Into<String>) -> BadValue {
        BadValue(reason.into())
    }
}

/// Checks `text` and returns its canonical form: `" TRUE"` is `true`, `"a, b"` is `a,b`, `"007"` is `7`.
pub fn check(kind: Kind, rule: Rule, text: &str) -> Result<String, BadValue> {
    let text = text.trim();
    if text.len() > CONFIG_VALUE_BYTES_MAX {
        return Err(BadValue::new(format!("must not be longer than {CONFIG_VALUE_BYTES_MAX} bytes")));
    }
    match kind {
        Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok("true".to_owned()),
        Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok("false".to_owned()),
        Kind::Boolean => Err(BadValue::new("Expected value to be either true or false")),
        Kind::Short => integer(kind, rule, text, i64::from(i16::MIN), i64::from(i16::MAX)),
        Kind::Int => integer(kind, rule, text, i64::from(i32::MIN), i64::from(i32::MAX)),
        Kind::Long => integer(kind, rule, text, i64::MIN, i64::MAX),
        Kind::Double => {
            let number: f64 = text.parse().map_err(|_| BadValue::new("Not a number of type DOUBLE"))?;
            if rule == Rule::Fraction && !(0.0..=1.0).contains(&number) {
                return Err(BadValue::new("must be between 0 and 1"));
            }
            Ok(double(number))
        }
        Kind::String | Kind::Class | Kind::Password => {
            allowed(rule, text)?;
            Ok(text.to_owned())
        }
        Kind::List => {
            if text.is_empty() {
                return Ok(String::new());
            }
            let items: Vec<&str> = text.split(',').map(str::trim).collect();
            for item in &items {
                allowed(rule, item)?;
            }
            Ok(items.join(","))
        }
    }
}

/// Parses and bounds an integer of the range of its type.
fn integer(kind: Kind, rule: Rule, text: &str, type_min: i64, type_max: i64) -> Result<String, BadValue> {
    let number: i64 = text.parse().map_err(|_| BadValue::new(format!("Not a number of type {kind}")))?;
    if !(type_min..=type_max).contains(&number) {
        return Err(BadValue::new(format!("Not a number of type {kind}")));
    }
    match rule {
        Rule::AtLeast(min) if number < min => Err(BadValue::new(format!("Value must be at least {min}"))),
        Rule::Between(min, max) if !(min..=max).contains(&number) => {
            Err(BadValue::new(format!("must be between {min} and {max}")))
        }
        Rule::BetweenOr(min, max, other) if !(min..=max).contains(&number) && number != other => {
            Err(BadValue::new(format!("must be between {min} and {max}, or {other}")))
        }
        Rule::NonZero if number == 0 => Err(BadValue::new("must be unlimited (-1) or, greater than or equal to 1")),
        _ => Ok(number.to_string()),
    }
}

/// A floating point number as Java writes it: with an exponent from ten million on and below a thousandth.
fn double(number: f64) -> String {
    if number == 0.0 || !number.is_finite() || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// Checks one text of a string or of a list.
fn allowed(rule: Rule, text: &str) -> Result<(), BadValue> {
    match rule {
        Rule::OneOf(values) if !values.contains(&text) => {
            Err(BadValue::new(format!("String must be one of: {}", values.join(", "))))
        }
        Rule::OneOfAnyCase(values) if !values.iter().any(|value| value.eq_ignore_ascii_case(text)) => {
            Err(BadValue::new(format!("String must be one of (case insensitive): {}", values.join(", "))))
        }
        Rule::ThrottledReplicas if text != "*" && !is_replica(text) => {
            Err(BadValue::new("must be '*' or a list of partition:broker pairs"))
        }
        Rule::OffsetReset if !is_offset_reset(text) => {
            Err(BadValue::new("must be 'earliest', 'latest', or 'by_duration:' and a duration such as P1DT12H"))
        }
        _ => Ok(()),
    }
}

/// True for `partition:broker`.
fn is_replica(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
}

fn is_offset_reset(text: &str) -> bool {
    matches!(text, "earliest" | "latest") || text.strip_prefix("by_duration:").is_some_and(is_duration)
}

/// True for a duration of ISO 8601 in days and smaller units, such as `P1DT2H30M` or `PT0.5S`. Java's signs before single
/// numbers are not known here.
fn is_duration(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let Some(text) = text.strip_prefix('P') else { return false };
    match text.split_once('T') {
        Some((days, time)) => (days.is_empty() || is_amounts(days, "D")) && is_amounts(time, "HMS"),
        None => is_amounts(text, "D"),
    }
}

/// True for one number or more, each before one of these units, in their order. Seconds may have a fraction.
fn is_amounts(text: &str, units: &str) -> bool {
    const DIGITS_MAX: usize = 18;
    let is_number =
        |digits: &str| (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let mut rest = text;
    for unit in units.chars() {
        let Some((amount, behind)) = rest.split_once(unit) else { continue };
        let (number, fraction) = match amount.split_once(['.', ',']) {
            Some((number, fraction)) if unit == 'S' => (number, fraction),
            _ => (amount, "0"),
        };
        if !is_number(number) || !is_number(fraction) {
            return false;
        }
        rest = behind;
    }
    !text.is_empty() && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_kafkas_text_form() {
        assert_eq!(check(Kind::Boolean, Rule::Any, " TRUE ").unwrap(), "true");
        assert_eq!(check(Kind::Int, Rule::AtLeast(0), "+007").unwrap(), "7");
        assert_eq!(check(Kind::Double, Rule::Fraction, "1").unwrap(), "1.0");
        assert_eq!(
            check(Kind::List, Rule::OneOf(&["compact", "delete"]), "compact , delete").unwrap(),
            "compact,delete"
        );
        assert_eq!(check(Kind::List, Rule::OneOf(&["compact"]), "").unwrap(), "");
        assert_eq!(check(Kind::String, Rule::OneOfAnyCase(&["UPGRADE"]), "upGrade").unwrap(), "upGrade");
        assert_eq!(check(Kind::Class, Rule::Any, " a.B ").unwrap(), "a.B");
        for (given, kept) in [("1e7", "1.0E7"), ("9999999", "9999999.0"), ("-0.00025", "-2.5E-4"), ("0.001", "0.001")] {
            assert_eq!(check(Kind::Double, Rule::Any, given).unwrap(), kept);
        }
        let greatest = f64::MAX.to_string();
        assert_eq!(check(Kind::Double, Rule::Any, &greatest).unwrap(), "1.7976931348623157E308");
    }

    #[test]
    fn values_outside_type_or_rule_are_refused() {
        assert!(check(Kind::Boolean, Rule::Any, "yes").is_err());
        assert!(check(Kind::Int, Rule::Any, "2147483648").is_err());
        assert!(check(Kind::Long, Rule::Any, "9223372036854775808").is_err());
        assert!(check(Kind::Long, Rule::AtLeast(1), "0").is_err());
        assert!(check(Kind::Int, Rule::BetweenOr(1, 9, -1), "0").is_err());
        assert!(check(Kind::Int, Rule::BetweenOr(1, 9, -1), "-1").is_ok());
        assert!(check(Kind::Long, Rule::NonZero, "0").is_err());
        assert!(check(Kind::Long, Rule::NonZero, "-7").is_ok());
        assert!(check(Kind::String, Rule::OneOfAnyCase(&["UPGRADE"]), "up").is_err());
        assert!(check(Kind::Double, Rule::Fraction, "NaN").is_err());
        assert!(check(Kind::List, Rule::OneOf(&["compact", "delete"]), "compact,forget").is_err());
        assert!(check(Kind::List, Rule::ThrottledReplicas, "1:2,3:4").is_ok());
        assert!(check(Kind::List, Rule::ThrottledReplicas, "1:").is_err());
        assert!(check(Kind::String, Rule::Any, &"x".repeat(CONFIG_VALUE_BYTES_MAX)).is_ok());
        assert!(check(Kind::String, Rule::Any, &"x".repeat(CONFIG_VALUE_BYTES_MAX + 1)).is_err());
    }

    /// What Java's `Duration.parse` reads is a duration, but for signs.
    #[test]
    fn a_share_group_starts_at_an_end_or_some_time_ago() {
        let is_allowed = |text: &str| check(Kind::String, Rule::OffsetReset, text).is_ok();
        for text in ["earliest", "latest"] {
            assert!(is_allowed(text), "{text}");
        }
        for duration in ["P1D", "PT1H", "pt1h30m", "P2DT3H4M5.678S", "PT0S", "PT1,5S", "PT5M7S"] {
            assert!(is_allowed(&format!("by_duration:{duration}")), "{duration}");
        }
        for text in ["", "none", "EARLIEST", "by_duration", "by_duration:", "by_duration:x"] {
            assert!(!is_allowed(text), "{text}");
        }
        for duration in ["P", "PT", "P1DT", "1D", "P1H", "PT1D", "PT1M1H", "PT1.5H", "PT1", "P-1D", "PT1H1H", "P1Y"] {
            assert!(!is_allowed(&format!("by_duration:{duration}")), "{duration}");
        }
        assert!(!is_allowed(&format!("by_duration:P{}D", "1".repeat(19))), "its text is bounded");
    }
}

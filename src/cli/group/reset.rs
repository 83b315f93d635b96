//! `corelane group reset`: moves what a group without members committed, as `kafka-consumer-groups --reset-offsets` does.
//!
//! Tells what it would do unless told to do it. Offsets outside the log become the nearest one inside.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::str::FromStr;

use clap::Args;
use serde_json::json;

use super::GroupError;
use super::coordinator::{self, Commit, TopicPartition};
use crate::cli::client::{Client, ClientError, EARLIEST, LATEST, READ_UNCOMMITTED};
use crate::cli::output::{Format, FormatArguments, write_table};
use crate::protocol::error_code::ErrorCode;

/// Options of `corelane group reset`.
#[derive(Args, Debug)]
pub(super) struct ResetArguments {
    /// Name of the group; need not exist
    name: String,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    target: TargetArguments,
    /// Do it; without, only tell
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    format: FormatArguments,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Scope {
    /// A topic, with all its partitions or those named; may repeat
    #[arg(short, long, value_name = "TOPIC[:N,..]")]
    topic: Vec<TopicScope>,
    /// Every partition that the group committed in
    #[arg(long)]
    all_topics: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// To the start of the log
    #[arg(long)]
    to_earliest: bool,
    /// To the end of the log
    #[arg(long)]
    to_latest: bool,
    /// To this offset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// So many records on, or back if negative, from where the group is
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first record not older: 2026-01-31T12:00:00.000, in UTC unless it ends with a zone like +01:00, or
    /// milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to_datetime: Option<i64>,
}

/// A topic and perhaps some of its partitions.
#[derive(Clone, Debug, Eq, PartialEq)]
struct TopicScope {
    name: String,
    /// None for all.
    partitions: Option<Vec<i32>>,
}

impl FromStr for TopicScope {
    type Err = String;

    fn from_str(text: &str) -> Result<TopicScope, String> {
        let (name, list) = match text.split_once(':') {
            Some((name, list)) => (name, Some(list)),
            None => (text, None),
        };
        let partition = |text: &str| text.parse::<i32>().ok().filter(|&partition| partition >= 0);
        let partitions = list.map(|list| list.split(',').map(partition).collect::<Option<Vec<i32>>>());
        match partitions {
            _ if name.is_empty() => Err(format!("`{text}` names no topic")),
            Some(None) => Err(format!("`{text}` is no topic with partitions; write for example orders:0,1")),
            partitions => Ok(TopicScope { name: name.to_owned(), partitions: partitions.flatten() }),
        }
    }
}

/// Where to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Target {
    Earliest,
    Latest,
    Offset(i64),
    Shift(i64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl TargetArguments {
    fn target(&self) -> Target {
        match *self {
            TargetArguments { to_earliest: true, .. } => Target::Earliest,
            TargetArguments { to_offset: Some(offset), .. } => Target::Offset(offset),
            TargetArguments { shift_by: Some(by), .. } => Target::Shift(by),
            TargetArguments { to_datetime: Some(time), .. } => Target::Time(time),
            TargetArguments { .. } => Target::Latest,
        }
    }
}

/// Plans, tells, and with `--execute` commits.
pub(super) fn run(client: &mut Client, options: &ResetArguments) -> Result<(), GroupError> {
    let name = &options.name;
    let commits = match coordinator::describe(client, name)? {
        Some(group) if !group.members.is_empty() || !matches!(group.state.as_str(), "Empty" | "Dead") => {
            return Err(GroupError::HasMembers { name: name.clone(), state: group.state });
        }
        Some(_) => coordinator::commits(client, name)?,
        None => BTreeMap::new(),
    };
    let plan = plan(client, options, &commits)?;
    if plan.is_empty() {
        return Err(GroupError::Reset(format!("group {name} committed nothing yet; name topics by --topic")));
    }
    if options.execute {
        coordinator::commit(client, name, &plan)?;
    }
    print(options, &commits, &plan)?;
    Ok(())
}

/// The new offset of every partition asked for.
fn plan(
    client: &mut Client,
    options: &ResetArguments,
    commits: &BTreeMap<TopicPartition, Commit>,
) -> Result<BTreeMap<TopicPartition, i64>, GroupError> {
    let target = options.target.target();
    let mut plan = BTreeMap::new();
    for scope in scopes(&options.scope, commits) {
        let topic = client.topic(&scope.name, false)?;
        let partitions =
            scope.partitions.unwrap_or_else(|| topic.partitions.iter().map(|partition| partition.index).collect());
        let mut ask = |timestamp| -> Result<BTreeMap<i32, i64>, GroupError> {
            let found = client.offsets(&topic, &partitions, timestamp, READ_UNCOMMITTED)?;
            let offset = |(partition, found): (i32, Result<i64, ErrorCode>)| match found {
                Ok(offset) => Ok((partition, offset)),
                Err(error) => {
                    let subject = format!("{}-{partition}", topic.name);
                    Err(ClientError::refused(subject, error.code(), None).into())
                }
            };
            found.into_iter().map(offset).collect()
        };
        let starts = ask(EARLIEST)?;
        let ends = ask(LATEST)?;
        let by_time = if let Target::Time(time) = target { ask(time)? } else { BTreeMap::new() };
        for (&partition, &start) in &starts {
            let key = (topic.name.clone(), partition);
            let end = *ends.get(&partition).expect("the client answers for every partition it was asked for");
            let current = commits.get(&key).map(|commit| commit.offset);
            let wanted = match target {
                Target::Earliest => start,
                Target::Latest => end,
                Target::Offset(offset) => offset,
                Target::Shift(by) => current.map(|current| current.saturating_add(by)).ok_or_else(|| {
                    GroupError::Reset(format!("{}-{partition} has no commit to shift from", topic.name))
                })?,
                // No record is that young: all have been read then.
                Target::Time(_) => by_time.get(&partition).copied().filter(|&offset| offset >= 0).unwrap_or(end),
            };
            plan.insert(key, within(&topic.name, partition, wanted, start, end));
        }
    }
    Ok(plan)
}

/// What the options ask for, as topics with partitions.
fn scopes(scope: &Scope, commits: &BTreeMap<TopicPartition, Commit>) -> Vec<TopicScope> {
    if !scope.all_topics {
        return scope.topic.clone();
    }
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in commits.keys() {
        topics.entry(topic).or_default().push(*partition);
    }
    let scope =
        |(name, partitions): (&str, Vec<i32>)| TopicScope { name: name.to_owned(), partitions: Some(partitions) };
    topics.into_iter().map(scope).collect()
}

/// The nearest offset that the log has; says so on stderr where it is another than asked for.
fn within(topic: &str, partition: i32, wanted: i64, start: i64, end: i64) -> i64 {
    let possible = wanted.max(start).min(end);
    if possible != wanted {
        eprintln!("corelane: {topic}-{partition} goes from {start} to {end}: {possible} instead of {wanted}");
    }
    possible
}

fn print(
    options: &ResetArguments,
    commits: &BTreeMap<TopicPartition, Commit>,
    plan: &BTreeMap<TopicPartition, i64>,
) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let before = |key: &TopicPartition| commits.get(key).map(|commit| commit.offset);
    match options.format.format {
        Format::Text => {
            let done = if options.execute { "reset" } else { "not reset: a dry run, give --execute to do it" };
            writeln!(out, "group {}  {done}", options.name)?;
            let mut rows = vec![["topic", "partition", "before", "after"].map(str::to_owned)];
            rows.extend(plan.iter().map(|(key, after)| {
                let before = before(key).map_or_else(|| "-".to_owned(), |offset| offset.to_string());
                [key.0.clone(), key.1.to_string(), before, after.to_string()]
            }));
            write_table(&mut out, &rows)?;
        }
        Format::Json => {
            let rows = plan.iter().map(|(key, after)| {
                json!({
                    "topic": key.0,
                    "partition": key.1,
                    "before": before(key),
                    "after": after,
                    "executed": options.execute,
                })
            });
            writeln!(out, "{}", serde_json::Value::from_iter(rows))?;
        }
    }
    out.flush()
}

/// A moment as Kafka's tool takes it, `YYYY-MM-DDTHH:mm:ss.SSS` with parts left out at the end, or milliseconds.
fn parse_time(text: &str) -> Result<i64, String> {
    let complain =
        || format!("`{text}` is no time; write 2026-01-31T12:00:00.000, +01:00 behind it for a zone, or milliseconds");
    if let Ok(ms) = text.parse::<i64>() {
        return if ms >= 0 { Ok(ms) } else { Err(complain()) };
    }
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00"));
    let (time, zone_minutes) = split_zone(time).ok_or_else(complain)?;
    let date: Vec<i64> = date.split('-').map(digits).collect::<Option<_>>().ok_or_else(complain)?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let clock: Vec<i64> = clock.split(':').map(digits).collect::<Option<_>>().ok_or_else(complain)?;
    let ms = digits(fraction).filter(|_| fraction.len() <= 3).ok_or_else(complain)?;
    // `.5` is half a second.
    let ms = ms * [1, 100, 10, 1][fraction.len()];
    let (&[year, month, day], &[hour, minute, ref second @ ..]) = (&date[..], &clock[..]) else {
        return Err(complain());
    };
    let second = match second {
        [] => 0,
        [second] => *second,
        _ => return Err(complain()),
    };
    let in_calendar = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_calendar {
        return Err(complain());
    }
    let minutes = (days_from_civil(year, month, day) * 24 + hour) * 60 + minute - zone_minutes;
    Ok(((minutes * 60 + second) * 1000 + ms).max(0))
}

/// The clock and how many minutes its zone is ahead of UTC.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, 0)) };
    let zone = time[at + 1..].replace(':', "");
    let number = digits(&zone).filter(|_| zone.len() == 4)?;
    let minutes = number / 100 * 60 + number % 100;
    Some((&time[..at], if time.as_bytes()[at] == b'-' { -minutes } else { minutes }))
}

/// A number of one to four plain digits: all that dates are made of.
fn digits(text: &str) -> Option<i64> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years are counted from March, so that a leap day ends its year: January 2026 is month 10 of 2025.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    // From March on the months have 31, 30, 31, 30, 31 days again and again.
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_kafkas_tool_reads_them() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000", 0),
            ("1970-01-02", 86_400_000),
            ("2000-02-29T12:30:15.250", 951_827_415_250),
            ("2026-01-31T23:59", 1_769_903_940_000),
            ("2026-01-31T23:59:59", 1_769_903_999_000),
            ("2026-02-01T00:59:59.5+01:00", 1_769_903_999_500),
            ("2026-01-31T18:59:59-0500", 1_769_903_999_000),
            ("2026-01-31T23:59:59Z", 1_769_903_999_000),
            ("1769903999000", 1_769_903_999_000),
        ] {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_time() {
        for text in [
            "",
            "T",
            "-5",
            "yesterday",
            "2026-13-01",
            "2026-02-29",
            "2026-01-00",
            "2026-01-31T24:00",
            "2026-01-31T1",
            "2026-01-31T10:60",
            "2026-01-31T10:00:00.1234",
            "2026-01-31T10:00:00+1",
            "2026-01-31T10:00:00+0\u{e4}1",
            "2026-01-31T10:00:00:00",
            "2026-+1-01",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_topic_may_name_partitions() {
        let scope = |name: &str, partitions| TopicScope { name: name.to_owned(), partitions };
        assert_eq!("orders".parse(), Ok(scope("orders", None)));
        assert_eq!("orders:0,12".parse(), Ok(scope("orders", Some(vec![0, 12]))));
        for text in ["", ":1", "orders:", "orders:x", "orders:-1", "orders:1,"] {
            assert!(text.parse::<TopicScope>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_offset_outside_the_log_becomes_the_nearest_inside() {
        assert_eq!(within("t", 0, 5, 2, 9), 5);
        assert_eq!(within("t", 0, 1, 2, 9), 2);
        assert_eq!(within("t", 0, 10, 2, 9), 9);
    }

    #[test]
    fn all_topics_are_those_with_a_commit() {
        let commit = || Commit { offset: 1, leader_epoch: -1, metadata: String::new() };
        let commits = [("a", 0), ("a", 2), ("b", 1)].map(|(topic, p)| ((topic.to_owned(), p), commit())).into();
        let asked = scopes(&Scope { topic: Vec::new(), all_topics: true }, &commits);
        let scope = |name: &str, partitions| TopicScope { name: name.to_owned(), partitions: Some(partitions) };
        assert_eq!(asked, [scope("a", vec![0, 2]), scope("b", vec![1])]);
    }
}

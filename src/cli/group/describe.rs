//! `corelane group describe`: where a group is in each partition, how fast it and the partition move, and who owns it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::GroupError;
use super::coordinator::{self, Commit, Group, Member, TopicPartition};
use crate::cli::client::{Client, ClientError, LATEST, READ_UNCOMMITTED, is_unknown_topic};
use crate::cli::output::{Format, FormatArguments, write_table};

/// Options of `corelane group describe`.
#[derive(Args, Debug)]
pub(super) struct DescribeArguments {
    /// Name of the group [default: all]
    name: Option<String>,
    /// Seconds to watch for the rates; 0 prints at once and without them
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    interval: Duration,
    #[command(flatten)]
    format: FormatArguments,
}

/// Where a group and the logs that it reads were at one moment.
struct Sample {
    at: Instant,
    commits: BTreeMap<TopicPartition, Commit>,
    /// Of those partitions whose leader could say.
    ends: BTreeMap<TopicPartition, i64>,
}

/// One partition as it is told.
#[derive(Debug)]
struct Row<'a> {
    topic: &'a str,
    partition: i32,
    commit: Option<&'a Commit>,
    end: Option<i64>,
    /// Records per second that the group's commits moved on by; negative after a reset.
    read_rate: Option<f64>,
    /// Records per second that the partition grew by.
    write_rate: Option<f64>,
    owner: Option<&'a Member>,
}

impl Row<'_> {
    /// Records that are not yet committed. None without a commit: where the group would begin is the members' choice.
    fn lag(&self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.commit?.offset).max(0))
    }
}

/// Prints one group, or all.
pub(super) fn run(client: &mut Client, options: &DescribeArguments) -> Result<(), GroupError> {
    let names = match &options.name {
        Some(name) => vec![name.clone()],
        None => coordinator::list(client)?.into_iter().map(|listed| listed.name).collect(),
    };
    let mut groups = Vec::new();
    for name in names {
        match coordinator::describe(client, &name)? {
            Some(group) => {
                let sample = sample(client, &group)?;
                groups.push((group, sample));
            }
            None if options.name.is_some() => return Err(GroupError::NoGroup(name)),
            // Deleted since it was listed, or of a kind that has no lag (share groups).
            None => {}
        }
    }
    // All are watched at once, however many they are.
    let watch = !options.interval.is_zero() && !groups.is_empty();
    if watch {
        std::thread::sleep(options.interval);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut objects = Vec::new();
    for (index, (group, first)) in groups.iter().enumerate() {
        let second = if watch { Some(sample(client, group)?) } else { None };
        let rows = rows_of(group, first, second.as_ref());
        match options.format.format {
            Format::Text => {
                if index > 0 {
                    writeln!(out)?;
                }
                write_text(&mut out, client, group, &rows)?;
            }
            Format::Json => objects.push(to_json(group, &rows)),
        }
    }
    if options.format.format == Format::Json {
        writeln!(out, "{}", serde_json::Value::from(objects))?;
    }
    out.flush()?;
    Ok(())
}

fn sample(client: &mut Client, group: &Group) -> Result<Sample, ClientError> {
    let commits = coordinator::commits(client, &group.name)?;
    let at = Instant::now();
    let assigned = group.members.iter().flat_map(|member| &member.partitions);
    let mut by_topic: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in assigned.chain(commits.keys()) {
        by_topic.entry(topic).or_default().insert(*partition);
    }
    let mut ends = BTreeMap::new();
    for (name, partitions) in by_topic {
        let topic = match client.topic(name, false) {
            Ok(topic) => topic,
            // Its commits outlive a topic.
            Err(error) if is_unknown_topic(&error) => continue,
            Err(error) => return Err(error),
        };
        let partitions: Vec<i32> = partitions.into_iter().collect();
        let found = client.offsets(&topic, &partitions, LATEST, READ_UNCOMMITTED)?;
        ends.extend(found.into_iter().filter_map(|(partition, end)| Some(((name.to_owned(), partition), end.ok()?))));
    }
    Ok(Sample { at, commits, ends })
}

/// Every partition that the group committed in or that a member owns, in the later of two samples.
fn rows_of<'a>(group: &'a Group, first: &'a Sample, second: Option<&'a Sample>) -> Vec<Row<'a>> {
    let now = second.unwrap_or(first);
    let mut owners: BTreeMap<&TopicPartition, &Member> = BTreeMap::new();
    for member in &group.members {
        owners.extend(member.partitions.iter().map(|partition| (partition, member)));
    }
    let all: BTreeSet<&TopicPartition> = owners.keys().copied().chain(now.commits.keys()).collect();
    let rate = |before: Option<i64>, after: Option<i64>| {
        let seconds = second?.at.duration_since(first.at).as_secs_f64();
        let moved = after?.saturating_sub(before?);
        // A difference of offsets of one second is far below 2^52.
        (seconds > 0.0).then(|| precise(moved) / seconds)
    };
    let committed = |sample: &Sample, key: &TopicPartition| sample.commits.get(key).map(|commit| commit.offset);
    all.into_iter()
        .map(|key| Row {
            topic: &key.0,
            partition: key.1,
            commit: now.commits.get(key),
            end: now.ends.get(key).copied(),
            read_rate: rate(committed(first, key), committed(now, key)),
            write_rate: rate(first.ends.get(key).copied(), now.ends.get(key).copied()),
            owner: owners.get(key).copied(),
        })
        .collect()
}

/// A number of records as a float, exact up to 2^32 either way and held there beyond.
fn precise(count: i64) -> f64 {
    let size = u32::try_from(count.unsigned_abs()).unwrap_or(u32::MAX);
    if count < 0 { -f64::from(size) } else { f64::from(size) }
}

fn write_text(out: &mut impl Write, client: &Client, group: &Group, rows: &[Row<'_>]) -> io::Result<()> {
    let members = group.members.len();
    write!(out, "group {}  {}  {}  members {members}", group.name, group.protocol.word(), group.state)?;
    if !group.assignor.is_empty() {
        write!(out, "  assignor {}", group.assignor)?;
    }
    if let Some(epoch) = group.epoch {
        write!(out, "  epoch {epoch}")?;
    }
    match client.address(group.coordinator) {
        Ok(address) => write!(out, "  coordinator {} ({address})", group.coordinator)?,
        Err(_) => write!(out, "  coordinator {}", group.coordinator)?,
    }
    write!(out, "  lag {}", total_lag(rows))?;
    // A sum that leaves some out must not look like the whole.
    match rows.iter().filter(|row| row.lag().is_none()).count() {
        0 => writeln!(out)?,
        unknown => writeln!(out, ", unknown in {unknown} of {} partitions", rows.len())?,
    }
    if !rows.is_empty() {
        let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let head = ["topic", "partition", "committed", "log end", "lag", "read/s", "written/s", "owner"];
        let mut cells = vec![head.map(str::to_owned)];
        cells.extend(rows.iter().map(|row| {
            [
                row.topic.to_owned(),
                row.partition.to_string(),
                number(row.commit.map(|commit| commit.offset)),
                number(row.end),
                number(row.lag()),
                rate(row.read_rate),
                rate(row.write_rate),
                row.owner.map_or_else(|| "-".to_owned(), shown),
            ]
        }));
        write_table(out, &cells)?;
    }
    for member in group.members.iter().filter(|member| member.partitions.is_empty()) {
        writeln!(out, "  without partitions: {}", shown(member))?;
    }
    Ok(())
}

/// Client, host and the part of the id that tells members of one client apart.
fn shown(member: &Member) -> String {
    let Member { id, instance, client, host, .. } = member;
    let instance = instance.as_ref().map(|instance| format!(" static {instance}")).unwrap_or_default();
    format!("{client}@{host} {id}{instance}")
}

fn total_lag(rows: &[Row<'_>]) -> i64 {
    rows.iter().filter_map(Row::lag).fold(0, i64::saturating_add)
}

fn to_json(group: &Group, rows: &[Row<'_>]) -> serde_json::Value {
    let members = group.members.iter().map(|member| {
        let partitions =
            member.partitions.iter().map(|(topic, partition)| json!({"topic": topic, "partition": partition}));
        json!({
            "member": member.id,
            "instance": member.instance,
            "client": member.client,
            "host": member.host,
            "partitions": serde_json::Value::from_iter(partitions),
        })
    });
    let partitions = rows.iter().map(|row| {
        json!({
            "topic": row.topic,
            "partition": row.partition,
            "committed": row.commit.map(|commit| commit.offset),
            "leader_epoch": row.commit.map(|commit| commit.leader_epoch).filter(|&epoch| epoch >= 0),
            "metadata": row.commit.map(|commit| &commit.metadata),
            "log_end": row.end,
            "lag": row.lag(),
            "read_per_s": row.read_rate,
            "written_per_s": row.write_rate,
            "owner": row.owner.map(|member| &member.id),
        })
    });
    json!({
        "group": group.name,
        "protocol": group.protocol.word(),
        "state": group.state,
        "assignor": group.assignor,
        "epoch": group.epoch,
        "coordinator": group.coordinator,
        "lag": total_lag(rows),
        "members": serde_json::Value::from_iter(members),
        "partitions": serde_json::Value::from_iter(partitions),
    })
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{text}` is no number of seconds up to 3600"))
}

#[cfg(test)]
mod tests {
    use super::super::coordinator::Protocol;
    use super::*;

    fn key(partition: i32) -> TopicPartition {
        ("t".to_owned(), partition)
    }

    fn sample(at: Instant, commits: &[(i32, i64)], ends: &[(i32, i64)]) -> Sample {
        let commit = |offset| Commit { offset, leader_epoch: -1, metadata: String::new() };
        Sample {
            at,
            commits: commits.iter().map(|&(partition, offset)| (key(partition), commit(offset))).collect(),
            ends: ends.iter().map(|&(partition, end)| (key(partition), end)).collect(),
        }
    }

    fn group(partitions: &[i32]) -> Group {
        let member = Member {
            id: "m-1".to_owned(),
            instance: None,
            client: "m".to_owned(),
            host: "h".to_owned(),
            partitions: partitions.iter().map(|&partition| key(partition)).collect(),
        };
        Group {
            name: "g".to_owned(),
            protocol: Protocol::Classic,
            state: "Stable".to_owned(),
            assignor: "range".to_owned(),
            epoch: None,
            coordinator: 1,
            members: vec![member],
        }
    }

    #[test]
    fn rates_are_what_moved_between_the_samples_per_second() {
        let start = Instant::now();
        let first = sample(start, &[(0, 10)], &[(0, 100)]);
        let second = sample(start + Duration::from_secs(2), &[(0, 30), (1, 5)], &[(0, 90), (1, 5)]);
        let group = group(&[0]);
        let rows = rows_of(&group, &first, Some(&second));
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].read_rate, rows[0].write_rate), (Some(10.0), Some(-5.0)));
        assert_eq!(rows[0].lag(), Some(60));
        // Its first commit came between the two.
        assert_eq!((rows[1].read_rate, rows[1].write_rate, rows[1].lag()), (None, None, Some(0)));
        assert!(rows[0].owner.is_some() && rows[1].owner.is_none());
        assert_eq!(total_lag(&rows), 60);
    }

    #[test]
    fn an_owned_partition_without_a_commit_has_a_row_and_no_lag() {
        let first = sample(Instant::now(), &[], &[(0, 7)]);
        let group = group(&[0]);
        let rows = rows_of(&group, &first, None);
        assert_eq!((rows[0].end, rows[0].lag(), rows[0].read_rate), (Some(7), None, None));
    }

    #[test]
    fn a_commit_beyond_a_shortened_log_is_no_negative_lag() {
        let first = sample(Instant::now(), &[(0, 9)], &[(0, 4)]);
        let group = group(&[]);
        assert_eq!(rows_of(&group, &first, None)[0].lag(), Some(0));
    }

    #[test]
    fn intervals_are_seconds_up_to_an_hour() {
        assert_eq!(parse_interval("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_interval("0"), Ok(Duration::ZERO));
        for text in ["-1", "3601", "NaN", "inf", "x"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }
}

//! `corelane log stats`: where the space goes, by topic, partition and segment, and what the cleaner would do next.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::bytes;
use super::names::Names;
use super::{DataArguments, LogError, Shard, inspect};
use crate::cli::output::{Format, FormatArguments, write_table};
use crate::limits::{CLEAN_SLACK_PERCENT, CLEAN_SLACK_SEGMENTS};
use crate::runtime::meter::Meter;
use crate::store::inspect::{CleanerReport, PartitionReport, SegmentReport, SegmentUse, StoreReport};
use crate::types::{LogId, SegmentNumber, TopicId};

/// Logs named of those that a segment is kept for.
const PINS_NAMED: usize = 3;

/// Options of `corelane log stats`.
#[derive(Args, Debug)]
pub(super) struct StatsArguments {
    #[command(flatten)]
    data: DataArguments,
    /// Print every partition, not topics alone
    #[arg(long)]
    partitions: bool,
    /// Print every segment and what keeps it
    #[arg(long)]
    segments: bool,
    #[command(flatten)]
    format: FormatArguments,
}

/// A shard and what its store is like.
struct ShardReport {
    shard: Shard,
    report: StoreReport,
}

pub(super) fn run(options: &StatsArguments) -> Result<(), LogError> {
    let mut shards = Vec::new();
    let meter = Arc::new(Meter::new(None));
    for found in options.data.shards()? {
        let inspection =
            inspect(&found, &meter, false).map_err(|cause| LogError::Inspect { path: found.path.clone(), cause })?;
        shards.push(ShardReport { report: inspection.stats(), shard: Shard { found, inspection } });
    }
    let names = Names::read(shards.iter().map(|report| &report.shard));
    let mut out = io::BufWriter::new(io::stdout().lock());
    match options.format.format {
        Format::Json => {
            let all = shards.iter().map(|shard| shard_json(shard, &names));
            writeln!(out, "{}", Value::from_iter(all))?;
        }
        Format::Text => write_text(&mut out, options, &shards, &names)?,
    }
    out.flush()?;
    for ShardReport { shard, .. } in &shards {
        if let Some((position, _)) = shard.inspection.damage() {
            let (path, segment, byte) = (shard.found.path.display(), position.segment, position.byte);
            eprintln!("corelane: {path} is damaged in segment {segment} at byte {byte}: see `corelane log verify`");
        }
    }
    Ok(())
}

fn write_text(
    out: &mut impl Write,
    options: &StatsArguments,
    shards: &[ShardReport],
    names: &Names,
) -> Result<(), LogError> {
    for ShardReport { shard, report } in shards {
        let dead_bytes = dead_bytes(report);
        let unfilled_bytes = report.used_bytes.saturating_sub(report.live_bytes + dead_bytes);
        writeln!(out, "shard {}  {}", shard.found.shard, shard.found.path.display())?;
        writeln!(
            out,
            "  {} segments use {} of {}: {} live, {} dead, {} to be filled; {} free files have {}",
            report.segments.len(),
            bytes::text(report.used_bytes),
            bytes::text(report.budget_bytes),
            bytes::text(report.live_bytes),
            bytes::text(dead_bytes),
            bytes::text(unfilled_bytes),
            report.free_files,
            bytes::text(report.free_bytes),
        )?;
        let (segment, byte) = (report.log_end.segment, report.log_end.byte);
        writeln!(out, "  the log ends in segment {segment} at byte {byte}; checkpoint {}", report.checkpoint_sequence)?;
        writeln!(out, "  cleaner: {}", cleaner_text(&report.cleaner))?;
        if options.segments {
            write_segments(out, report, names)?;
        }
    }
    writeln!(out)?;
    if options.partitions {
        write_partitions(out, shards, names)?
    } else {
        write_topics(out, shards, names)?
    }
    Ok(())
}

/// Bytes of segments that hold nothing that lives, as far as they are filled.
fn dead_bytes(report: &StoreReport) -> u64 {
    report.segments.iter().map(|segment| segment.dead_bytes).sum()
}

/// What the cleaner would do, and why or why not.
fn cleaner_text(report: &CleanerReport) -> String {
    match report {
        CleanerReport::Empties { segments, moved_bytes, gained_bytes, excess_bytes } => {
            let (moved, gained) = (bytes::text(*moved_bytes), bytes::text(*gained_bytes));
            let why = match excess_bytes {
                0 => "many small segments become one".to_owned(),
                _ => format!("{} are in use beyond what should be", bytes::text(*excess_bytes)),
            };
            format!("would move {moved} out of segments {} and gain {gained}: {why}", list(segments))
        }
        CleanerReport::NoExcess => format!(
            "nothing to do: no more is in use than what lives, {CLEAN_SLACK_PERCENT} % of it, and {CLEAN_SLACK_SEGMENTS} segments"
        ),
        CleanerReport::NotWorthIt { excess_bytes } => format!(
            "nothing it could gain: {} are in use beyond what should be, but too much lives beside what is dead",
            bytes::text(*excess_bytes)
        ),
        CleanerReport::NoFile => "waits: there is no file for what it would move".to_owned(),
    }
}

/// Numbers with commas, runs as `3-7`.
fn list(numbers: &[SegmentNumber]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers.iter().map(|number| number.value()) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn write_segments(out: &mut impl Write, report: &StoreReport, names: &Names) -> io::Result<()> {
    let partitions = by_log(report);
    let mut rows = vec![["segment", "file", "is", "on disk", "live", "dead", "kept by"].map(str::to_owned)];
    rows.extend(report.segments.iter().map(|segment| {
        [
            segment.number.to_string(),
            segment.file.clone(),
            usage_text(segment.usage).to_owned(),
            bytes::text(segment.allocated_bytes),
            bytes::text(segment.live_bytes),
            bytes::text(segment.dead_bytes),
            pins_text(segment, &partitions, names),
        ]
    }));
    write_table(out, &rows)
}

fn by_log(report: &StoreReport) -> BTreeMap<LogId, PartitionReport> {
    report.partitions.iter().map(|partition| (partition.record.log, *partition)).collect()
}

fn usage_text(usage: SegmentUse) -> &'static str {
    match usage {
        SegmentUse::Open => "open",
        SegmentUse::Hot => "hot",
        SegmentUse::Cold => "cold",
    }
}

fn pins_text(segment: &SegmentReport, partitions: &BTreeMap<LogId, PartitionReport>, names: &Names) -> String {
    let mut words: Vec<String> = Vec::new();
    if segment.usage == SegmentUse::Open {
        words.push("the log goes on in it".to_owned());
    } else if segment.shares.is_empty() {
        return "the checkpoint alone: the next one frees it".to_owned();
    }
    for (log, live_bytes) in segment.shares.iter().take(PINS_NAMED) {
        let name = match partitions.get(log) {
            Some(partition) => format!("{}/{}", names.name(partition.record.topic), partition.record.partition),
            None => format!("log {log}"),
        };
        words.push(format!("{name} {}", bytes::text(*live_bytes)));
    }
    if segment.shares.len() > PINS_NAMED {
        words.push(format!("{} more", segment.shares.len() - PINS_NAMED));
    }
    words.join(", ")
}

/// What all partitions of one topic take.
#[derive(Default)]
struct TopicTotal {
    partitions: usize,
    live_bytes: u64,
    records: i64,
}

fn write_topics(out: &mut impl Write, shards: &[ShardReport], names: &Names) -> io::Result<()> {
    let mut totals: BTreeMap<TopicId, TopicTotal> = BTreeMap::new();
    for partition in shards.iter().flat_map(|shard| &shard.report.partitions) {
        let total = totals.entry(partition.record.topic).or_default();
        total.partitions += 1;
        total.live_bytes += partition.live_bytes;
        total.records += partition.record.log_end.since(partition.record.log_start);
    }
    let mut totals: Vec<(String, TopicTotal)> =
        totals.into_iter().map(|(topic, total)| (names.name(topic), total)).collect();
    totals.sort_by(|(name, total), (other_name, other)| {
        other.live_bytes.cmp(&total.live_bytes).then_with(|| name.cmp(other_name))
    });
    let mut rows = vec![["topic", "partitions", "live", "offsets"].map(str::to_owned)];
    rows.extend(totals.into_iter().map(|(name, total)| {
        [name, total.partitions.to_string(), bytes::text(total.live_bytes), total.records.to_string()]
    }));
    write_table(out, &rows)
}

fn write_partitions(out: &mut impl Write, shards: &[ShardReport], names: &Names) -> io::Result<()> {
    let mut all: Vec<(String, &ShardReport, &PartitionReport)> = Vec::new();
    for shard in shards {
        let partitions = shard.report.partitions.iter();
        all.extend(partitions.map(|partition| (names.name(partition.record.topic), shard, partition)));
    }
    all.sort_by(|(name, _, one), (other_name, _, other)| {
        (name, one.record.partition).cmp(&(other_name, other.record.partition))
    });
    let mut rows = vec![["topic", "partition", "shard", "live", "segments", "log start", "log end"].map(str::to_owned)];
    rows.extend(all.into_iter().map(|(name, shard, partition)| {
        let record = &partition.record;
        [
            name,
            record.partition.to_string(),
            shard.shard.found.shard.to_string(),
            bytes::text(partition.live_bytes),
            partition.segments.to_string(),
            record.log_start.to_string(),
            record.log_end.to_string(),
        ]
    }));
    write_table(out, &rows)
}

fn shard_json(ShardReport { shard, report }: &ShardReport, names: &Names) -> Value {
    let partition = |partition: &PartitionReport| {
        let record = &partition.record;
        json!({
            "topic": names.name(record.topic),
            "topic_id": record.topic.to_string(),
            "partition": record.partition.value(),
            "log": record.log.value(),
            "live_bytes": partition.live_bytes,
            "segments": partition.segments,
            "log_start": record.log_start.value(),
            "log_end": record.log_end.value(),
        })
    };
    let segment = |segment: &SegmentReport| {
        let kept_by = segment.shares.iter().map(|(log, bytes)| json!({ "log": log.value(), "live_bytes": bytes }));
        json!({
            "segment": segment.number.value(),
            "file": segment.file,
            "is": usage_text(segment.usage),
            "bytes": segment.bytes,
            "allocated_bytes": segment.allocated_bytes,
            "live_bytes": segment.live_bytes,
            "dead_bytes": segment.dead_bytes,
            "kept_by": Value::from_iter(kept_by),
        })
    };
    let (segments, moved_bytes, gained_bytes) = match &report.cleaner {
        CleanerReport::Empties { segments, moved_bytes, gained_bytes, .. } => {
            (segments.as_slice(), *moved_bytes, *gained_bytes)
        }
        CleanerReport::NoExcess | CleanerReport::NotWorthIt { .. } | CleanerReport::NoFile => (&[][..], 0, 0),
    };
    json!({
        "shard": shard.found.shard.value(),
        "directory": shard.found.path.display().to_string(),
        "used_bytes": report.used_bytes,
        "live_bytes": report.live_bytes,
        "dead_bytes": dead_bytes(report),
        "free_bytes": report.free_bytes,
        "free_files": report.free_files,
        "budget_bytes": report.budget_bytes,
        "log_end": { "segment": report.log_end.segment.value(), "byte": report.log_end.byte },
        "checkpoint": report.checkpoint_sequence,
        "cleaner": {
            "segments": Value::from_iter(segments.iter().map(|number| number.value())),
            "moved_bytes": moved_bytes,
            "gained_bytes": gained_bytes,
            "why": cleaner_text(&report.cleaner),
        },
        "partitions": Value::from_iter(report.partitions.iter().map(partition)),
        "segments": Value::from_iter(report.segments.iter().map(segment)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_in_a_row_are_a_range() {
        let numbers = [1, 2, 3, 5, 8, 9].map(SegmentNumber::new);
        assert_eq!(list(&numbers), "1-3, 5, 8-9");
        assert_eq!(list(&[]), "");
    }
}

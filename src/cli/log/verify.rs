//! `corelane log verify`: reads all that counts, as fast as the disk or at a rate, and lists what is damaged.
//!
//! What belongs to a store is decided when it begins: what a broker appends later is not read, and what it frees meanwhile is no
//! damage. Segments are read by a few threads, so that one reads while another sums up.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::bytes;
use super::names::Names;
use super::progress::Progress;
use super::{DataArguments, LogError, Shard, inspect};
use crate::cli::output::{Format, FormatArguments};
use crate::limits::VERIFY_THREADS_MAX;
use crate::runtime::meter::Meter;
use crate::runtime::read_only::{ReadOnlyRuntime, block_on};
use crate::server::data_directory::ShardDirectory;
use crate::store::OpenError;
use crate::store::inspect::{Damage, DamagedPart, InspectError, Inspection, SegmentCheck, SegmentTask};
use crate::types::LogPosition;

/// Between two looks at how far the threads are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Options of `corelane log verify`.
#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    data: DataArguments,
    /// Most megabytes to read in a second, so that a running broker has the disk [default: as fast as it goes]
    #[arg(long, value_name = "MB")]
    rate: Option<NonZeroU64>,
    #[command(flatten)]
    format: FormatArguments,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// All is well.
    Well,
    /// Something is damaged.
    Damaged,
    /// Something could not be looked at, and nothing else is damaged.
    Unseen,
}

/// Damage, and in whose store.
struct Found {
    shard: usize,
    damage: Damage,
}

/// What became of a segment.
type Checked = Result<Option<SegmentCheck>, LogError>;

pub(super) fn run(options: &VerifyArguments) -> Result<Verdict, LogError> {
    let began = Instant::now();
    let directories = options.data.shards()?;
    let meter = Arc::new(Meter::new(options.rate.map(|rate| rate.get().saturating_mul(1_000_000))));
    let (mut all, mut is_unseen) = (Vec::new(), false);
    let mut shards: Vec<Option<Shard>> = Vec::new();
    for (shard, found) in directories.iter().enumerate() {
        let (inspection, damage) = look(found, &meter);
        all.extend(damage.map(|damage| Found { shard, damage }));
        match inspection {
            Ok(inspection) => shards.push(Some(Shard { found: found.clone(), inspection })),
            Err(None) => shards.push(None),
            Err(Some(cause)) => {
                is_unseen = true;
                eprintln!("corelane: {}", LogError::Inspect { path: found.path.clone(), cause });
                shards.push(None);
            }
        }
    }
    let (read, read_bytes) = check_all(&shards, &meter)?;
    let mut checks: Vec<Vec<SegmentCheck>> = shards.iter().map(|_| Vec::new()).collect();
    let mut segments = 0_usize;
    for (shard, checked) in read {
        match checked {
            Ok(checked) => {
                segments += usize::from(checked.is_some());
                checks[shard].extend(checked);
            }
            Err(error) => {
                is_unseen = true;
                eprintln!("corelane: {error}");
            }
        }
    }
    for (index, (shard, checks)) in shards.iter().zip(checks).enumerate() {
        let Some(shard) = shard else { continue };
        all.extend(shard.inspection.verdict(checks).into_iter().map(|damage| Found { shard: index, damage }));
        // What cannot be read now was read before.
        for remark in block_on(shard.inspection.remarks()).unwrap_or_default() {
            eprintln!("corelane: {}: {remark}", shard.found.path.display());
        }
    }
    let names = Names::read(shards.iter().flatten());
    let summary = summary(&all, segments, read_bytes, shards.len(), began.elapsed());
    let mut out = io::BufWriter::new(io::stdout().lock());
    match options.format.format {
        Format::Json => {
            let rows = all.iter().map(|found| damage_json(&directories[found.shard], &found.damage, &names));
            writeln!(out, "{}", Value::from_iter(rows))?;
            eprintln!("{summary}");
        }
        Format::Text => {
            for Found { shard, damage } in &all {
                writeln!(out, "{}", damage_text(&directories[*shard], damage, &names))?;
            }
            writeln!(out, "{summary}")?;
        }
    }
    out.flush()?;
    Ok(match (all.is_empty(), is_unseen) {
        (false, _) => Verdict::Damaged,
        (true, true) => Verdict::Unseen,
        (true, false) => Verdict::Well,
    })
}

/// Looks at a shard's store. What a start would refuse is damage; what is left behind that is read all the same, if it can be.
/// Without an inspection: why there is none, unless the damage says it.
fn look(
    found: &ShardDirectory,
    meter: &Arc<Meter>,
) -> (Result<Inspection<ReadOnlyRuntime>, Option<InspectError>>, Option<Damage>) {
    let cause = match inspect(found, meter, false) {
        Ok(inspection) => return (Ok(inspection), None),
        Err(cause) => cause,
    };
    let whole_store = |position: Option<&LogPosition>, what: String| Damage {
        segment: position.map(|position| position.segment),
        file: String::new(),
        bytes: None,
        what,
        parts: Vec::new(),
    };
    if cause.is_lost_checkpoint() {
        let damage = whole_store(None, format!("{cause}: the broker does not start on this, but with --accept-loss"));
        return (inspect(found, meter, true).map_err(Some), Some(damage));
    }
    match &cause {
        InspectError::Open(OpenError::Damage { position, .. }) => {
            let damage = whole_store(Some(position), format!("{cause}"));
            (Err(None), Some(damage))
        }
        _ => (Err(Some(cause)), None),
    }
}

/// Reads all segments of all shards, and says of each which shard it is of, and what was found. The bytes are those of entries.
fn check_all(shards: &[Option<Shard>], meter: &Arc<Meter>) -> Result<(Vec<(usize, Checked)>, u64), LogError> {
    let mut tasks: Vec<(usize, &ShardDirectory, SegmentTask)> = Vec::new();
    for (index, shard) in shards.iter().enumerate() {
        let Some(shard) = shard else { continue };
        tasks.extend(shard.inspection.tasks().into_iter().map(|task| (index, &shard.found, task)));
    }
    let all_bytes: u64 = tasks.iter().map(|(_, _, task)| task.bytes_to_read()).sum();
    let before = meter.taken_bytes();
    let mut progress = Progress::new(all_bytes);
    let next = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let count = tasks.len().min(cores.clamp(2, VERIFY_THREADS_MAX)).max(1);
    let outcome = thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..count {
            let work = || check_some(&tasks, &next, meter);
            let spawned = thread::Builder::new().name("verify".to_owned()).spawn_scoped(scope, work);
            threads.push(spawned.map_err(|cause| LogError::System { action: "start a thread", cause })?);
        }
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(LOOK_EVERY);
            progress.on_read(meter.taken_bytes() - before);
        }
        let joined = threads.into_iter().flat_map(|thread| thread.join().expect("a panic ends the process"));
        Ok(joined.collect())
    });
    progress.finish();
    outcome.map(|checked| (checked, all_bytes))
}

/// One thread's part of the work.
fn check_some(
    tasks: &[(usize, &ShardDirectory, SegmentTask)],
    next: &AtomicUsize,
    meter: &Arc<Meter>,
) -> Vec<(usize, Checked)> {
    let runtime = ReadOnlyRuntime::new(Arc::clone(meter));
    let mut done = Vec::new();
    while let Some((shard, found, task)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let checked = block_on(task.check(&runtime, &found.path));
        let checked = checked.map_err(|cause| LogError::Read { path: found.path.clone(), cause: cause.to_string() });
        done.push((*shard, checked));
    }
    done
}

fn summary(all: &[Found], segments: usize, read_bytes: u64, shards: usize, elapsed: Duration) -> String {
    let tenths = elapsed.as_millis() / 100;
    let read = format!(
        "{segments} segments of {shards} shards with {} read in {}.{} s",
        bytes::text(read_bytes),
        tenths / 10,
        tenths % 10
    );
    let losing = all.iter().filter(|found| found.damage.loses_live()).count();
    match all.len() {
        0 => format!("{read}: all is well"),
        count => format!("{read}: damaged places: {count}, with the loss of records: {losing}"),
    }
}

fn damage_text(found: &ShardDirectory, damage: &Damage, names: &Names) -> String {
    let place = match (&damage.file, damage.segment) {
        (file, Some(segment)) if !file.is_empty() => {
            format!("{}, segment {segment}", found.path.join(file).display())
        }
        (_, Some(segment)) => format!("{}, segment {segment}", found.path.display()),
        (_, None) => found.path.display().to_string(),
    };
    let bytes = match &damage.bytes {
        Some(bytes) if bytes.is_empty() => format!(", byte {}", bytes.start),
        Some(bytes) => format!(", bytes {} to {}", bytes.start, bytes.end - 1),
        None => String::new(),
    };
    let parts = |is_live: bool| {
        let parts = damage.parts.iter().filter(|part| part.is_live == is_live);
        parts.map(|part| part_text(part, names)).collect::<Vec<_>>().join("; ")
    };
    let (live, dead) = (parts(true), parts(false));
    let loss = match (live.is_empty(), dead.is_empty()) {
        (false, _) => format!("lost: {live}"),
        (true, false) => format!("in what is dead, nothing is lost: {dead}"),
        (true, true) => "no record that lives is known to be lost by it".to_owned(),
    };
    format!("shard {}: {place}{bytes}: {}: {loss}", found.shard, damage.what)
}

fn part_text(part: &DamagedPart, names: &Names) -> String {
    let whose = match part.partition {
        Some((topic, partition)) => format!("topic {} partition {partition}", names.name(topic)),
        None => format!("log {}", part.log),
    };
    format!("{whose} offsets {} to {}", part.first, part.last)
}

fn damage_json(found: &ShardDirectory, damage: &Damage, names: &Names) -> Value {
    let records = damage.parts.iter().map(|part| {
        json!({
            "topic": part.partition.map(|(topic, _)| names.name(topic)),
            "topic_id": part.partition.map(|(topic, _)| topic.to_string()),
            "partition": part.partition.map(|(_, partition)| partition.value()),
            "log": part.log.value(),
            "first_offset": part.first.value(),
            "last_offset": part.last.value(),
            "is_live": part.is_live,
        })
    });
    json!({
        "shard": found.shard.value(),
        "directory": found.path.display().to_string(),
        "file": Some(&damage.file).filter(|file| !file.is_empty()),
        "segment": damage.segment.map(|segment| segment.value()),
        "first_byte": damage.bytes.as_ref().map(|bytes| bytes.start),
        "end_byte": damage.bytes.as_ref().map(|bytes| bytes.end),
        "what": damage.what,
        "is_live_lost": damage.loses_live(),
        "records": Value::from_iter(records),
    })
}

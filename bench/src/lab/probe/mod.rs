//! `probe`: what this machine can do at most, one kind of work at a time, to read the figures of servers against.
//!
//! Each limit is the median of several short rounds on one CPU; network traffic has its other end on another one. Nothing
//! is tuned for the occasion: the same system calls as a server makes them, the socket options that the host has.

mod blocks;
mod floor_check;
mod memory;
mod network;
mod reads;
mod round;
mod writes;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

pub(crate) use self::floor_check::floor_counts;
pub(crate) use self::round::Pace;
use super::result::{Limit, Probe};
use crate::server::raise_locked_memory;

/// Options of `probe`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Directory on the disk to measure
    #[arg(long, value_name = "DIR", default_value = "./bench-data")]
    data: PathBuf,
    /// CPU that is measured
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// CPU of the other end of network traffic
    #[arg(long, default_value_t = 1)]
    other_cpu: usize,
    /// Few and short rounds: under ten seconds
    #[arg(long)]
    quick: bool,
    /// Write the limits to FILE too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Check a floor of this CPU time against the limits, as `produce-floors` prints it
    #[arg(long, value_name = "NANOSECONDS")]
    floor_cpu_ns_per_kib: Option<f64>,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let pace = if arguments.quick { Pace::QUICK } else { Pace::THOROUGH };
    let probe = measure(&arguments.data, arguments.cpu, arguments.other_cpu, pace)?;
    println!(
        "{:<18} {:>10} {:>5} {:>10} {:>12} {:>10} {:>10} {:>10}",
        "work", "bytes", "depth", "MB/s", "operations/s", "p50 µs", "p99 µs", "ns CPU/KiB"
    );
    for limit in &probe.limits {
        println!("{}", row(limit));
    }
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_vec_pretty(&probe)?)?;
    }
    if let Some(floor) = arguments.floor_cpu_ns_per_kib {
        let check = floor_counts(&probe, floor).ok_or("the probe lacks a limit that makes a floor up")?;
        println!("{check}");
    }
    Ok(())
}

fn row(limit: &Limit) -> String {
    let time = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}"));
    format!(
        "{:<18} {:>10} {:>5} {:>10.0} {:>12.0} {:>10} {:>10} {:>10.1}",
        limit.work,
        limit.block_bytes,
        limit.depth,
        limit.bytes_per_s / 1e6,
        limit.operations_per_s,
        time(limit.p50_us),
        time(limit.p99_us),
        limit.cpu_ns_per_kib
    )
}

/// Measures everything on `cpu`, the disk that holds `data` (made if missing) included. The calling thread only waits.
///
/// Errors: `data` allows no direct I/O, or there is no such CPU.
pub(crate) fn measure(data: &Path, cpu: usize, other_cpu: usize, pace: Pace) -> Result<Probe, Box<dyn Error>> {
    fs::create_dir_all(data)?;
    let measured = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let measure = || -> Result<Vec<Limit>, Box<dyn Error>> {
        pin(cpu)?;
        let file = blocks::TestFile::prepare(data, pace.file_bytes)?;
        let mut limits = writes::measure(&file, pace)?;
        limits.extend(reads::measure(&file, pace)?);
        limits.extend(network::measure(other_cpu, pace)?);
        limits.extend(memory::measure(pace)?);
        Ok(limits)
    };
    // A thread of its own, so that the caller's affinity stays what it was.
    let limits = std::thread::scope(|scope| {
        let thread = scope.spawn(|| measure().map_err(|error| error.to_string()));
        thread.join().map_err(|_| "the probe panicked".to_owned())?
    })?;
    Ok(Probe { measured, limits })
}

fn pin(cpu: usize) -> Result<(), Box<dyn Error>> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(format!("CPU {cpu} is not there").into())
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).expect("64 bits")
}

/// A pseudo-random sequence: the same in every run, so that runs can be compared.
struct Sequence(u64);

impl Sequence {
    /// A number below `bound`, which is small beside 2^32.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * bound) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_stays_below_its_bound_and_comes_everywhere() {
        let mut sequence = Sequence(1);
        let mut seen = [false; 16];
        for _ in 0..1000 {
            seen[usize::try_from(sequence.below(16)).expect("small")] = true;
        }
        assert_eq!(seen, [true; 16]);
    }

    #[test]
    fn a_row_leaves_out_times_that_mean_nothing() {
        let limit = Limit {
            work: "loopback receive".to_owned(),
            block_bytes: 16_384,
            depth: 1,
            bytes_per_s: 2e9,
            operations_per_s: 122_070.0,
            p50_us: None,
            p99_us: Some(3.25),
            cpu_ns_per_kib: 140.04,
        };
        let row = row(&limit);
        let fields: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(fields, ["loopback", "receive", "16384", "1", "2000", "122070", "-", "3.2", "140.0"]);
    }
}

//! Whether a floor is one: a server that does the least possible costs what its parts cost on this machine, or it is not
//! the least, or the machine was busy, and then no figure may be read against it.

use std::fmt;

use super::{memory, network, to_u64, writes};
use crate::lab::result::{Limit, Probe};

/// How far a floor may be from the sum of its parts, either way.
const TOLERANCE: f64 = 0.25;

/// The parts of a floor: work, block bytes and depth. A floor receives into buffers of 256 KiB, checks and copies what came
/// while it is in the cache, and writes blocks of 1 MiB, a few at a time, to a file that was written before.
const PARTS: [(&str, usize, u32); 4] = [
    (network::RECEIVE, 256 * 1024, 1),
    (memory::CHECKSUM, memory::CHECKSUM_CACHED_BYTES, 1),
    (memory::COPY, memory::COPY_CACHED_BYTES, 1),
    (writes::WRITE, 1024 * 1024, 4),
];

/// A floor beside the sum of its parts, in CPU nanoseconds per KiB.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FloorCheck {
    /// What each part costs.
    pub(crate) parts: Vec<(&'static str, f64)>,
    /// What they cost together.
    pub(crate) sum_ns_per_kib: f64,
    /// What the floor cost.
    pub(crate) floor_ns_per_kib: f64,
    /// Whether it counts.
    pub(crate) counts: bool,
}

/// Compares a floor's CPU time with the probe's; `None` when the probe lacks one of the parts.
pub(crate) fn floor_counts(probe: &Probe, floor_cpu_ns_per_kib: f64) -> Option<FloorCheck> {
    let cost = |(work, block_bytes, depth): (&'static str, usize, u32)| {
        let is_it =
            |limit: &&Limit| limit.work == work && limit.block_bytes == to_u64(block_bytes) && limit.depth == depth;
        Some((work, probe.limits.iter().find(is_it)?.cpu_ns_per_kib))
    };
    let parts: Vec<_> = PARTS.into_iter().map(cost).collect::<Option<_>>()?;
    let sum: f64 = parts.iter().map(|(_, cost)| cost).sum();
    let counts = (floor_cpu_ns_per_kib / sum - 1.0).abs() <= TOLERANCE;
    Some(FloorCheck { parts, sum_ns_per_kib: sum, floor_ns_per_kib: floor_cpu_ns_per_kib, counts })
}

impl fmt::Display for FloorCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(|(work, cost)| format!("{work} {cost:.1}")).collect();
        write!(
            formatter,
            "floor {:.1} ns CPU/KiB, {} = {:.1}: {:.2} x, so it {}",
            self.floor_ns_per_kib,
            parts.join(" + "),
            self.sum_ns_per_kib,
            self.floor_ns_per_kib / self.sum_ns_per_kib,
            if self.counts { "counts" } else { "does not count" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of 100, 40, 30 and 30 ns per KiB, among others.
    fn probe() -> Probe {
        let limit = |(work, block_bytes, depth): (&str, usize, u32), cpu_ns_per_kib| Limit {
            work: work.to_owned(),
            block_bytes: to_u64(block_bytes),
            depth,
            bytes_per_s: 1e9,
            operations_per_s: 1e3,
            p50_us: None,
            p99_us: None,
            cpu_ns_per_kib,
        };
        let mut limits = vec![limit((writes::WRITE, 4096, 4), 999.0), limit((writes::WRITE, 1024 * 1024, 16), 999.0)];
        limits.extend(PARTS.into_iter().zip([100.0, 40.0, 30.0, 30.0]).map(|(part, cost)| limit(part, cost)));
        Probe { measured: String::new(), limits }
    }

    #[test]
    fn a_floor_counts_within_a_quarter_of_its_parts() {
        let counts = |floor| floor_counts(&probe(), floor).expect("all parts are there").counts;
        assert!(counts(200.0));
        assert!(counts(250.0));
        assert!(counts(150.0));
        assert!(!counts(251.0));
        assert!(!counts(149.0));
    }

    #[test]
    fn the_sum_is_shown_with_its_parts() {
        let check = floor_counts(&probe(), 260.0).expect("all parts are there");
        assert_eq!(
            check.to_string(),
            "floor 260.0 ns CPU/KiB, loopback receive 100.0 + crc32c 40.0 + memcpy 30.0 + write 30.0 = 200.0: 1.30 x, \
             so it does not count"
        );
    }

    #[test]
    fn a_probe_without_a_part_says_nothing() {
        let mut probe = probe();
        probe.limits.pop();
        assert_eq!(floor_counts(&probe, 200.0), None);
    }
}

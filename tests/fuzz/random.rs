//! The seeded stream behind every target, and damage drawn from it.

use corelane::protocol::compression::Codec;

/// Damages bytes the way wires, disks and enemies do: flips, edge values, cuts, insertions, repeats. Sometimes not at all.
pub(crate) fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const EDGES: [u32; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    for _ in 0..random.below(6) {
        if bytes.is_empty() {
            return;
        }
        // Half of the damage goes to the first bytes: headers hold the lengths.
        let reach = if random.one_in(2) { bytes.len().min(80) } else { bytes.len() };
        let at = random.below(reach);
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.bytes(1)[0],
            2 => {
                let edge = EDGES[random.below(EDGES.len())].to_be_bytes();
                let end = bytes.len().min(at + edge.len());
                bytes[at..end].copy_from_slice(&edge[..end - at]);
            }
            3 => bytes.truncate(at),
            4 => {
                let count = random.below(20);
                let noise = random.bytes(count);
                bytes.splice(at..at, noise);
            }
            5 => {
                let end = bytes.len().min(at + random.below(300));
                bytes.extend_from_within(at..end);
            }
            _ => {
                let end = bytes.len().min(at + random.below(30));
                bytes.drain(at..end);
            }
        }
    }
}

/// A small generator of our own (SplitMix64), so that a seed means the same on every machine and version.
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 when that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap().max(1);
        usize::try_from(self.next() % bound).unwrap()
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Up to `bytes_max` bytes in which some repeat.
    pub(crate) fn compressible(&mut self, bytes_max: usize) -> Vec<u8> {
        let target = self.below(bytes_max + 1);
        let mut out = Vec::with_capacity(target);
        while out.len() < target {
            if out.len() > 8 && !self.one_in(4) {
                let start = self.below(out.len());
                let end = out.len().min(start + 1 + self.below(200));
                out.extend_from_within(start..end);
            } else {
                let count = 1 + self.below(24);
                out.extend(self.bytes(count));
            }
        }
        out.truncate(target);
        out
    }

    pub(crate) fn codec(&mut self) -> Codec {
        Codec::ALL[self.below(Codec::ALL.len())]
    }
}

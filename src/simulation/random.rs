//! The one source of randomness of a simulated run: xoshiro256** by Blackman and Vigna, seeded through splitmix64.
//!
//! Not for secrets. A generator splits into independent ones, so that drawing more numbers in one place (say, for a
//! disk's latency) does not shift what another place (say, the choice of the next task) draws.

use std::ops::Range;

/// A seeded stream of numbers. Equal seeds give equal streams, on every machine and in every build.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of `seed`. Neighbouring seeds give unrelated streams.
    pub fn new(seed: u64) -> Random {
        let mut mix = seed;
        Random { state: std::array::from_fn(|_| splitmix(&mut mix)) }
    }

    /// A stream of its own, independent of what is drawn from this one afterwards.
    pub fn split(&mut self) -> Random {
        Random::new(self.next())
    }

    /// Sixty-four bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0);
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a product of two 64-bit numbers")
    }

    /// An index into something of `count` elements, at least one.
    pub fn index(&mut self, count: usize) -> usize {
        let bound = u64::try_from(count).expect("counts fit into 64 bits");
        usize::try_from(self.below(bound)).expect("below a usize")
    }

    /// A number of the range, which is not empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end);
        range.start + self.below(range.end - range.start)
    }

    /// True in `numerator` of `denominator` cases.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// One of the elements, of which there is at least one.
    pub fn pick<'a, T>(&mut self, elements: &'a [T]) -> &'a T {
        &elements[self.index(elements.len())]
    }

    /// Puts the elements into random order.
    pub fn shuffle<T>(&mut self, elements: &mut [T]) {
        for end in (1..elements.len()).rev() {
            elements.swap(end, self.index(end + 1));
        }
    }

    /// Fills `bytes`.
    pub fn bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// The next output of splitmix64: turns any seed, also 0, into well-mixed state.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_matches_its_reference() {
        // The first outputs of Vigna's splitmix64.c for the seed 1234567.
        let mut state = 1_234_567;
        assert_eq!(splitmix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(splitmix(&mut state), 3_203_168_211_198_807_973);
    }

    #[test]
    fn xoshiro_matches_its_reference() {
        // xoshiro256starstar.c from the state 1, 2, 3, 4.
        let mut random = Random { state: [1, 2, 3, 4] };
        assert_eq!(random.next(), 11_520);
        assert_eq!(random.next(), 0);
        assert_eq!(random.next(), 1_509_978_240);
    }

    #[test]
    fn equal_seeds_give_equal_streams_and_others_differ() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..16).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_split_stream_is_not_shifted_by_draws_from_its_parent() {
        let mut parent = Random::new(1);
        let mut quiet = parent.split();
        let expected = quiet.next();
        let mut parent = Random::new(1);
        let mut child = parent.split();
        parent.next();
        assert_eq!(child.next(), expected);
    }

    #[test]
    fn draws_stay_in_range_and_reach_every_value() {
        let mut random = Random::new(3);
        let mut seen = [0u32; 5];
        for _ in 0..1000 {
            let value = random.range(10..15);
            seen[usize::try_from(value - 10).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
    }

    #[test]
    fn shuffle_keeps_the_elements() {
        let mut random = Random::new(4);
        let mut elements: Vec<u32> = (0..50).collect();
        random.shuffle(&mut elements);
        assert_ne!(elements, (0..50).collect::<Vec<_>>());
        elements.sort_unstable();
        assert_eq!(elements, (0..50).collect::<Vec<_>>());
    }
}

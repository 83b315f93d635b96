//! Which partition a key goes to, as Kafka's default partitioner decides, and which key comes next.

use super::random::Random;
use crate::report::float;

/// The partition of a key.
pub(super) fn partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// MurmurHash2 in 32 bits with the seed of Kafka's clients.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // The length is part of the hash, cut to 32 bits as in Java.
    let length = u32::try_from(bytes.len()).expect("a key is below 4 GiB");
    let mut hash = SEED ^ length;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed ^= mixed >> R;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (byte, shift) in tail.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Writes key number `index` over the end of `key`, in decimal digits; what stands before it are zeros.
pub(super) fn write(mut index: u64, key: &mut [u8]) {
    for byte in key.iter_mut().rev() {
        *byte = b"0123456789"[usize::try_from(index % 10).expect("below ten")];
        index /= 10;
    }
}

/// How often each of many keys comes.
pub(super) enum Spread {
    Even { count: u64 },
    Zipf(Zipf),
}

impl Spread {
    /// The number of the next key.
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        match self {
            Spread::Even { count } => u64::from(random.below(*count)),
            Spread::Zipf(zipf) => zipf.draw(random),
        }
    }
}

/// Numbers of which the n-th, counted from 1, comes with a share of 1 / n^exponent, by rejection-inversion (Hörmann and
/// Derflinger, 1996): constant time and memory for any count.
pub(super) struct Zipf {
    count: u64,
    exponent: f64,
    /// The integral of the density at the left and the right end.
    left: f64,
    right: f64,
    /// Distance below which a number is accepted without looking closer.
    near: f64,
}

impl Zipf {
    pub(super) fn new(count: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { count, exponent, left: 0.0, right: 0.0, near: 0.0 };
        zipf.left = zipf.integral(1.5) - 1.0;
        zipf.right = zipf.integral(float(count) + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// A number from 0 to `count`, `count` excluded.
    fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let height = self.right + random.unit() * (self.left - self.right);
            let place = self.inverse(height);
            let nearest = place.round().clamp(1.0, float(self.count));
            if nearest - place <= self.near || height >= self.integral(nearest + 0.5) - self.density(nearest) {
                // It lies between 1 and the count.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                return nearest as u64 - 1;
            }
        }
    }

    fn density(&self, place: f64) -> f64 {
        (-self.exponent * place.ln()).exp()
    }

    fn integral(&self, place: f64) -> f64 {
        let log = place.ln();
        let slope = 1.0 - self.exponent;
        // The integral of x^-exponent, whose limit for an exponent of 1 is the logarithm.
        if slope.abs() < 1e-9 { log } else { (slope * log).exp_m1() / slope }
    }

    fn inverse(&self, height: f64) -> f64 {
        let slope = 1.0 - self.exponent;
        let log = if slope.abs() < 1e-9 { height } else { (slope * height).max(-1.0).ln_1p() / slope };
        log.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_own_test() {
        // UtilsTest.testMurmur2 of Kafka's clients.
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_key_is_its_number_in_digits() {
        let mut key = [b'x'; 5];
        write(42, &mut key);
        assert_eq!(&key, b"00042");
        write(9_999_999, &mut key);
        assert_eq!(&key, b"99999");
    }

    #[test]
    fn zipf_shares_fall_as_the_exponent_says() {
        for exponent in [0.5, 0.99, 1.0, 1.5] {
            let (count, draws) = (1_000_u32, 400_000_u32);
            let zipf = Zipf::new(u64::from(count), exponent);
            let mut random = Random::new(7);
            let mut seen = vec![0_u32; 1_000];
            for _ in 0..draws {
                seen[usize::try_from(zipf.draw(&mut random)).unwrap()] += 1;
            }
            let norm: f64 = (1..=count).map(|n| f64::from(n).powf(-exponent)).sum();
            for n in [1_u32, 2, 3, 10, 100] {
                let expected = f64::from(draws) * f64::from(n).powf(-exponent) / norm;
                let got = f64::from(seen[usize::try_from(n).unwrap() - 1]);
                // Five standard deviations of a Poisson count.
                assert!((got - expected).abs() < 5.0 * expected.sqrt() + 1.0, "{exponent} {n}: {got} {expected}");
            }
        }
    }
}

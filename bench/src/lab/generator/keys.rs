//! Which key comes next, and what it looks like.

use super::random::Random;
use crate::report::float;

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

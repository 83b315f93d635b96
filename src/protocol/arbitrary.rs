//! Random messages that are valid in a dialect: fields the version lacks hold their default, so that encoding and decoding
//! gives the same value back. For tests and fuzzing; release builds are without it.

use std::borrow::Cow;

use super::wire::{Dialect, Records};
use crate::types::TopicId;

/// A small random stream (SplitMix64): the same seed, the same messages.
#[derive(Clone, Debug)]
pub struct Source {
    state: u64,
    elements_left: usize,
}

impl Source {
    /// Starts the stream of `seed`.
    pub fn new(seed: u64) -> Source {
        Source { state: seed, elements_left: 300 }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("64 bits");
        usize::try_from(self.bits() % bound).expect("below a usize")
    }
}

/// A value that can be drawn from a random stream.
pub trait Arbitrary: Sized {
    /// Draws a value.
    fn arbitrary(source: &mut Source, dialect: Dialect) -> Self;

    /// Draws a value that is not null.
    fn arbitrary_present(source: &mut Source, dialect: Dialect) -> Self {
        Self::arbitrary(source, dialect)
    }
}

/// Draws integers with the edges of their type more often than chance would.
macro_rules! arbitrary_integers {
    ($($ty:ident),*) => {$(
        impl Arbitrary for $ty {
            fn arbitrary(source: &mut Source, _: Dialect) -> Self {
                match source.below(8) {
                    0 => $ty::MAX,
                    1 => $ty::MIN,
                    2 => 0,
                    3 => (0 as $ty).wrapping_sub(1),
                    _ => $ty::from_le_bytes(*source.bits().to_le_bytes().first_chunk().expect("eight bytes")),
                }
            }
        }
    )*};
}

arbitrary_integers! { i8, i16, u16, i32, u32, i64 }

impl Arbitrary for bool {
    fn arbitrary(source: &mut Source, _: Dialect) -> Self {
        source.below(2) == 1
    }
}

impl Arbitrary for f64 {
    fn arbitrary(source: &mut Source, _: Dialect) -> Self {
        // Whole numbers compare equal to themselves; not-a-number would not.
        f64::from(u32::try_from(source.below(1 << 30)).expect("below 2^30")) / 8.0
    }
}

impl Arbitrary for TopicId {
    fn arbitrary(source: &mut Source, _: Dialect) -> Self {
        if source.below(4) == 0 {
            return TopicId::ZERO;
        }
        TopicId::new((u128::from(source.bits()) << 64 | u128::from(source.bits())).to_be_bytes())
    }
}

impl Arbitrary for Cow<'_, str> {
    fn arbitrary(source: &mut Source, _: Dialect) -> Self {
        const LETTERS: [char; 8] = ['a', 'Z', '0', '.', '-', 'ß', '漢', '🦀'];
        // 130 characters and more take a compact length of two bytes.
        let characters = if source.below(16) == 0 { 130 + source.below(300) } else { source.below(12) };
        (0..characters).map(|_| LETTERS[source.below(LETTERS.len())]).collect::<String>().into()
    }
}

impl Arbitrary for Cow<'_, [u8]> {
    fn arbitrary(source: &mut Source, _: Dialect) -> Self {
        (0..source.below(200)).map(|_| source.bits().to_le_bytes()[0]).collect::<Vec<u8>>().into()
    }
}

impl Arbitrary for Records<'_> {
    fn arbitrary(source: &mut Source, _: Dialect) -> Self {
        const POOL: &[u8; 300] = &[0xa5; 300];
        match source.below(4) {
            0 => Records::Null,
            _ => Records::Bytes(&POOL[..source.below(POOL.len())]),
        }
    }
}

impl<T: Arbitrary> Arbitrary for Vec<T> {
    fn arbitrary(source: &mut Source, dialect: Dialect) -> Self {
        // 130 elements take a compact length of two bytes; what all arrays hold together is bounded.
        let wanted = if source.below(32) == 0 { 130 } else { source.below(4) };
        let elements = wanted.min(source.elements_left);
        source.elements_left -= elements;
        (0..elements).map(|_| T::arbitrary(source, dialect)).collect()
    }
}

impl<T: Arbitrary> Arbitrary for Option<T> {
    fn arbitrary(source: &mut Source, dialect: Dialect) -> Self {
        if source.below(4) == 0 { None } else { Some(T::arbitrary(source, dialect)) }
    }

    fn arbitrary_present(source: &mut Source, dialect: Dialect) -> Self {
        Some(T::arbitrary(source, dialect))
    }
}

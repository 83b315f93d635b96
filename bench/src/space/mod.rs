//! The disk over time: what a store takes, what giving space back costs those who produce, and how what was moved reads.

pub(crate) mod load;
pub(crate) mod over_time;
pub(crate) mod reads;
pub(crate) mod windows;

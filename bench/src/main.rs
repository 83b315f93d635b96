//! Benchmarks of the broker.
fn main() {}

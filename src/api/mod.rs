//! One small file per Kafka API, named after it: versions and quirks, `handle`, its parts, its tests.

pub mod reply;

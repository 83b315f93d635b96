//! Where the records of a thread's producers come from.

use corelane::protocol::compression::Codec;

use super::mixture::Mixture;
use super::payload::Payload;
use super::plan::Plan;
use super::template::Template;
use crate::lab::workload::{Compression, Keys, RecordBytes, Workload};

/// Records of one thread.
pub(super) enum Supply {
    /// One size, no keys.
    Alike(Template),
    /// Anything else.
    Varied(Mixture),
}

impl Supply {
    /// Of a plan's workload; threads with different seeds have different values.
    pub(super) fn new(plan: &Plan, seed: u64) -> Supply {
        let workload = &plan.workload;
        let codec = codec(workload.compression);
        let payload = Payload::new(workload.record_bytes.largest(), workload.random_share, seed);
        match workload.record_bytes {
            RecordBytes::Fixed(bytes) if workload.keys == Keys::None => {
                Supply::Alike(Template::new(codec, bytes, workload.batch_bytes, plan.interval, payload))
            }
            _ => Supply::Varied(Mixture::new(plan, codec, payload, seed)),
        }
    }

    /// Whether the records of a workload are alike.
    pub(super) fn is_alike(workload: &Workload) -> bool {
        matches!(workload.record_bytes, RecordBytes::Fixed(_)) && workload.keys == Keys::None
    }
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::None => Codec::None,
        Compression::Gzip => Codec::Gzip,
        Compression::Snappy => Codec::Snappy,
        Compression::Lz4 => Codec::Lz4,
        Compression::Zstd => Codec::Zstd,
    }
}

//! Looks at a directory as a start would, and changes nothing: for tools.
//!
//! What it gives is what a start would find, the log's end with it, but for one thing: damage is told, and what is left is
//! given all the same. A broker may be writing meanwhile; whoever looks at its directory asks whether the checkpoint is still the
//! same, and looks again.

use super::files::ReadLink;
use super::{Survey, survey, without_unused};
use crate::runtime::Runtime;
use crate::store::checkpoint::{CheckpointHead, LiveSegment};
use crate::store::format::SegmentHeader;
use crate::store::state::Core;
use crate::store::{LostOffsets, OpenError, Replay, StoreOptions};
use crate::types::{FileId, LogPosition, SegmentNumber};

/// What a directory holds.
pub(in crate::store) struct Looked<R: Runtime> {
    /// The store as it was found. None of its tasks runs.
    pub(in crate::store) core: Core<R>,
    /// Where something that was durable is gone, and what that is known to have taken.
    pub(in crate::store) damage: Option<(LogPosition, Vec<LostOffsets>)>,
    /// The greatest position that anything says was durable.
    pub(in crate::store) durable: LogPosition,
    /// The segments that count, hot ones first.
    pub(in crate::store) segments: Vec<LookedSegment>,
    /// Segments that the checkpoint names and that are nowhere.
    pub(in crate::store) missing: Vec<SegmentNumber>,
    /// What the checkpoint says, that the start goes by; of a store without one, nothing.
    pub(in crate::store) head: CheckpointHead,
}

/// A segment that counts, and its file.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct LookedSegment {
    pub(in crate::store) header: SegmentHeader,
    /// Where its entries end, as far as they are whole.
    pub(in crate::store) end: u32,
    pub(in crate::store) file: FileId,
}

impl LookedSegment {
    fn of<F>(link: &ReadLink<F>) -> LookedSegment {
        LookedSegment { header: link.header, end: link.end, file: link.file.id }
    }
}

/// See the module.
///
/// Errors: as a start, but for damage that a start could accept.
pub(in crate::store) async fn look<R: Runtime>(
    runtime: R,
    options: StoreOptions,
    replay: &mut dyn Replay,
) -> Result<Looked<R>, OpenError> {
    let block_bytes = u32::try_from(options.block_bytes).expect("a block is smaller than a segment");
    let survey = survey(runtime, options, replay).await?;
    let Survey { mut recovery, checkpoints, head, records, end, links, cold, suspects, cut, free, next_file, .. } =
        survey;
    let damage = recovery.found_damage(&records);
    recovery.end_logs(end)?;
    let (end, links, unused) = without_unused(end, links, &head);
    let is_there = |named: &LiveSegment| {
        let mut counting = links.iter().chain(&cold);
        counting.any(|link| link.header.number == named.number) || cut.iter().any(|file| file.id == named.file)
    };
    let missing = head.segments.iter().filter(|named| !is_there(named)).map(|named| named.number).collect();
    let durable = recovery.proof.max(head.clean_end.unwrap_or_default());
    let looked = links.iter().chain(&cold).map(LookedSegment::of).collect();
    let of_no_use = unused.into_iter().chain(free).chain(suspects).chain(cut);
    let mut segments = recovery.segments(next_file, &head, of_no_use);
    for link in links.into_iter().chain(cold) {
        segments.live.insert(link.header.number, link.sealed());
    }
    // One that was begun and has no entry leaves the log ending in a segment that is sealed.
    if let Some(open) = segments.live.get_mut(&end.segment)
        && recovery.index.open_number() == end.segment
    {
        open.sealed_end = None;
    }
    // Nobody reads the block that the log would go on in.
    let content = vec![0; usize::try_from(end.byte % block_bytes).expect("a part of a block")];
    let core = recovery.finish(end, &content, segments, checkpoints);
    Ok(Looked { core, damage, durable, segments: looked, missing, head })
}

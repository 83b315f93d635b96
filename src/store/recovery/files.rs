//! Which files of a directory make up the log, and in which order.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::{Link, Recovery, failed, is_zero, unreadable};
use crate::runtime::{Buffer, File, Runtime, created_name};
use crate::store::checkpoint::CheckpointHead;
use crate::store::format::{
    FORMAT_VERSION, FormatError, SEGMENT_HEADER_BYTES, SegmentHeader, Stream, UNIT_BYTES, parse_segment_file_name,
    usize_of,
};
use crate::store::state::segments::{LiveSegment, SegmentFile};
use crate::store::{OpenError, StoreOptions};
use crate::types::{FileId, LogPosition, SegmentNumber};

/// A file as found.
pub(super) struct FoundFile<F> {
    pub(super) file: SegmentFile<F>,
    pub(super) header: Option<SegmentHeader>,
}

/// Removes what crashes left of creations of segment files.
pub(super) async fn remove_unfinished<R: Runtime>(runtime: &R, directory: &Path) -> Result<(), OpenError> {
    for name in runtime.list(directory).await.map_err(failed("list", directory))? {
        if created_name(&name).and_then(parse_segment_file_name).is_some() {
            remove_left(runtime, &directory.join(name)).await;
        }
    }
    Ok(())
}

pub(super) async fn find_files<R: Runtime>(
    runtime: &R,
    options: &StoreOptions,
) -> Result<Vec<FoundFile<R::File>>, OpenError> {
    let directory = &options.directory;
    let mut names = runtime.list(directory).await.map_err(failed("list", directory))?;
    names.sort();
    let mut found = Vec::new();
    for name in &names {
        let Some(id) = parse_segment_file_name(name) else { continue };
        let path = directory.join(name);
        let file = runtime.open(&path).await.map_err(unreadable(&path))?;
        let bytes = u32::try_from(file.bytes()).unwrap_or(u32::MAX) / UNIT_BYTES * UNIT_BYTES;
        let block = file.read_at(0, usize_of(SEGMENT_HEADER_BYTES)).await.map_err(unreadable(&path))?;
        let header = match SegmentHeader::decode(block.as_slice()) {
            Ok(header) if header.shard != options.shard => {
                let (expected, found) = (options.shard, header.shard);
                return Err(OpenError::WrongShard { path, expected, found });
            }
            Ok(header) => {
                if file.bytes() != u64::from(header.bytes) {
                    let (found, expected) = (file.bytes(), header.bytes);
                    tracing::warn!("{} has {found} bytes instead of {expected}", path.display());
                }
                Some(header)
            }
            Err(FormatError::Version(found)) => return Err(OpenError::NewerFormat { path, found }),
            Err(_) => None,
        };
        // One that never became a segment holds nothing but what was prepared, if that.
        let prepared = if is_zero(block.as_slice()) { 0 } else { bytes };
        found.push(FoundFile { file: SegmentFile { id, bytes, prepared, file }, header });
    }
    Ok(found)
}

/// Removes what a crash left of a creation, or a file that was cut.
pub(super) async fn remove_left<R: Runtime>(runtime: &R, path: &Path) {
    if let Err(cause) = runtime.remove(path).await {
        tracing::warn!("cannot remove {}, which is of no use: {cause}", path.display());
    }
}

/// How the files make up the log.
pub(super) struct Chain<F> {
    /// The hot log, in order.
    pub(super) links: Vec<Link<F>>,
    /// The cold segments that count, by number.
    pub(super) cold: Vec<Link<F>>,
    /// Not part of it, but perhaps of what is missing: to be surveyed, then free.
    pub(super) suspects: Vec<SegmentFile<F>>,
    /// Of no more use.
    pub(super) free: Vec<SegmentFile<F>>,
}

/// A segment that was read, and where it ends.
pub(super) struct ReadLink<F> {
    pub(super) file: SegmentFile<F>,
    pub(super) header: SegmentHeader,
    pub(super) end: u32,
}

impl<F> ReadLink<F> {
    /// The segment, to which nothing more is appended.
    pub(super) fn sealed(self) -> LiveSegment<F> {
        LiveSegment { header: self.header, file: Some(self.file), sealed_end: Some(self.end) }
    }
}

impl<R: Runtime> Recovery<'_, R> {
    /// Orders the files: those that the checkpoint names, then those opened after it, found by going back from the
    /// newest header along the predecessors. What no such path visits was cut off by an earlier recovery.
    pub(super) fn chain(
        &mut self,
        found: Vec<FoundFile<R::File>>,
        head: &CheckpointHead,
        complete: bool,
    ) -> Chain<R::File> {
        let mut links = Vec::new();
        let mut later: BTreeMap<SegmentNumber, Link<R::File>> = BTreeMap::new();
        let mut chain = Chain { links: Vec::new(), cold: Vec::new(), suspects: Vec::new(), free: Vec::new() };
        let listed: HashMap<FileId, _> = head.segments.iter().map(|segment| (segment.file, segment)).collect();
        let listed_free: HashMap<FileId, u32> = head.free.iter().map(|free| (free.file, free.bytes)).collect();
        for FoundFile { file, header } in found {
            if let Some(header) = &header {
                self.proof = self.proof.max(header.durable);
                self.incarnation = self.incarnation.max(header.incarnation);
            } else {
                // A file has all of its size when it gets its name.
                let bytes_min = listed_free.get(&file.id).copied().unwrap_or(2 * SEGMENT_HEADER_BYTES);
                if file.bytes < bytes_min {
                    self.headless.insert(file.id);
                }
            }
            match (listed.get(&file.id), header) {
                // Cut to less than a segment can be: as good as missing.
                (Some(_), None) if file.bytes < 2 * SEGMENT_HEADER_BYTES => chain.suspects.push(file),
                (Some(segment), header) if header.is_none_or(|header| header.number == segment.number) => {
                    // The checkpoint knows all that matters of a header that cannot be read.
                    let header = header.unwrap_or(SegmentHeader {
                        version: FORMAT_VERSION,
                        shard: self.options.shard,
                        stream: segment.stream,
                        number: segment.number,
                        incarnation: segment.incarnation,
                        bytes: segment.bytes,
                        predecessor: LogPosition::default(),
                        checkpoint_sequence: 0,
                        durable: LogPosition::default(),
                    });
                    let link = Link { file, header, expected_end: segment.data_end };
                    if segment.stream == Stream::Cold {
                        chain.cold.push(link);
                        continue;
                    }
                    // An earlier program named segments behind one whose file was not there yet.
                    if segment.number < head.next_segment {
                        links.push(link);
                    } else {
                        later.insert(segment.number, link);
                    }
                }
                // A cold segment counts where a checkpoint names it; without one, each that is whole does.
                (_, Some(header)) if header.stream == Stream::Cold && complete => chain.free.push(file),
                (_, Some(header)) if header.stream == Stream::Cold => {
                    chain.cold.push(Link { file, header, expected_end: None });
                }
                (_, Some(header)) if header.number >= head.next_segment => {
                    if let Some(twice) = later.insert(header.number, Link { file, header, expected_end: None }) {
                        chain.suspects.push(twice.file);
                    }
                }
                (_, Some(_)) => chain.free.push(file),
                (_, None) => chain.suspects.push(file),
            }
        }
        links.sort_by_key(|link| link.header.number);
        chain.cold.sort_by_key(|link| link.header.number);
        // What is left is better than nothing, where that is accepted.
        let passes_over = !complete && self.options.accept_loss;
        let path = path_back(&later, head.next_segment, complete, passes_over);
        for number in &path {
            links.extend(later.remove(number));
        }
        for segment in &head.segments {
            if segment.stream == Stream::Cold {
                if !chain.cold.iter().any(|link| link.header.number == segment.number) {
                    tracing::warn!(shard = %self.options.shard, "segment {} is missing", segment.number);
                    self.cold.damaged.get_or_insert(segment.number);
                }
            } else if !links.iter().any(|link| link.header.number == segment.number) {
                self.damage.get_or_insert(LogPosition { segment: segment.number, byte: SEGMENT_HEADER_BYTES });
                self.missing.insert(segment.number);
            }
        }
        chain.suspects.extend(later.into_values().map(|link| link.file));
        for index in 1..links.len() {
            let predecessor = links[index].header.predecessor;
            if predecessor.segment == links[index - 1].header.number {
                // A checkpoint may name less: what was lost and accepted.
                links[index - 1].expected_end.get_or_insert(predecessor.byte);
            }
        }
        chain.links = links;
        chain
    }
}

/// The segments opened since the checkpoint, in order: back from the newest whose path is whole. `complete`: no segment
/// of theirs can have been reused. Else a predecessor that is gone is passed over if something proves it was durable, or with
/// `passes_over` always: the cleaner frees segments right behind the newest.
fn path_back<F>(
    later: &BTreeMap<SegmentNumber, Link<F>>,
    base: SegmentNumber,
    complete: bool,
    passes_over: bool,
) -> Vec<SegmentNumber> {
    for newest in later.keys().rev() {
        let mut path = vec![*newest];
        let mut proof = LogPosition::default();
        let mut at = &later[newest].header;
        loop {
            proof = proof.max(at.durable);
            let predecessor = at.predecessor;
            let before = if predecessor.segment < base {
                None
            } else if later.contains_key(&predecessor.segment) {
                Some(predecessor.segment)
            } else if passes_over || (!complete && proof >= predecessor) {
                later.range(..predecessor.segment).next_back().map(|(number, _)| *number)
            } else {
                path.clear();
                None
            };
            // Numbers fall along the path; a header that says otherwise ends it.
            let Some(before) = before.filter(|before| *before < at.number) else { break };
            path.push(before);
            at = &later[&before].header;
        }
        if !path.is_empty() {
            path.reverse();
            return path;
        }
    }
    Vec::new()
}

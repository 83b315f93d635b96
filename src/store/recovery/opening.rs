//! Where the new life of the store begins: in the segment where an earlier one ended in good order, or in a fresh one.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::files::ReadLink;
use super::{Recovery, failed, is_zero, unreadable};
use crate::runtime::{Buffer, File, Runtime, is_out_of_space};
use crate::store::checkpoint::files::CheckpointFiles;
use crate::store::checkpoint::{CheckpointHead, CheckpointPartition, CheckpointWriter};
use crate::store::format::{
    FORMAT_VERSION, Footer, SEGMENT_HEADER_BYTES, SegmentHeader, Stream, UNIT_BYTES, segment_file_name, usize_of,
};
use crate::store::notify::Bells;
use crate::store::state::cleaning::Cleaning;
use crate::store::state::preparation::Preparation;
use crate::store::state::segment_writer::SegmentWriter;
use crate::store::state::segments::{LiveSegment, SegmentFile, Segments};
use crate::store::state::space::Space;
use crate::store::state::tail::Tail;
use crate::store::state::{Core, State, cold_bytes_max};
use crate::store::windows::ColdCache;
use crate::store::windows::holds::SegmentHolds;
use crate::store::windows::pace::Pace;
use crate::store::{OpenError, StoreStats};
use crate::types::{FileId, LogPosition, SegmentNumber};

impl<R: Runtime> Recovery<'_, R> {
    /// Makes durable what was read: a process that was killed may have written it without a flush.
    pub(super) async fn flush(&self, links: &[ReadLink<R::File>]) -> Result<(), OpenError> {
        if cfg!(corelane_defect = "recovered_unflushed") {
            return Ok(());
        }
        for link in links.iter().filter(|link| link.header.number >= self.covered.segment) {
            let path = self.options.directory.join(segment_file_name(link.file.id));
            link.file.file.flush().await.map_err(failed("flush", &path))?;
        }
        Ok(())
    }

    /// Goes on in the segment where an earlier life ended in good order. The new incarnation is made durable by a
    /// checkpoint that says the same but is not clean.
    pub(super) async fn go_on(
        mut self,
        end: LogPosition,
        mut segments: Segments<R::File>,
        mut checkpoints: CheckpointFiles<R>,
        head: &CheckpointHead,
        records: &[CheckpointPartition],
    ) -> Result<Core<R>, OpenError> {
        let mut writer = CheckpointWriter::new();
        for partition in records {
            writer.add_partition(&partition.record, partition.position, &partition.state);
        }
        let incarnation = self.incarnation.next();
        match checkpoints.write(writer, &CheckpointHead { incarnation, clean_end: None, ..head.clone() }).await {
            // A fresh segment does as well.
            Err(error) if error.is_out_of_space() => return self.begin(end, segments, checkpoints).await,
            written => written?,
        };
        self.incarnation = incarnation;
        let open = segments.live.get_mut(&end.segment).expect("the log ends in a live segment");
        open.sealed_end = None;
        let block_bytes = u32::try_from(self.options.block_bytes).expect("a block is smaller than a segment");
        let block_start = end.byte / block_bytes * block_bytes;
        let content_bytes = usize_of(end.byte - block_start);
        let file = open.file.as_mut().expect("a recovered segment has its file");
        let path = self.options.directory.join(segment_file_name(file.id));
        // Without a footer from an earlier segment the file was hardly ever full: its rest may be unwritten space.
        let last = u64::from(open.header.bytes - UNIT_BYTES);
        let last_unit = file.file.read_at(last, usize_of(UNIT_BYTES)).await.map_err(unreadable(&path))?;
        if is_zero(last_unit.as_slice()) {
            file.prepared = end.byte;
        }
        let mut content = Vec::new();
        if content_bytes > 0 {
            let bytes = content_bytes.next_multiple_of(usize_of(UNIT_BYTES));
            let read = file.file.read_at(u64::from(block_start), bytes).await.map_err(unreadable(&path))?;
            content.extend_from_slice(&read.as_slice()[..content_bytes]);
        }
        Ok(self.finish(end, &content, segments, checkpoints))
    }

    /// Begins a fresh segment whose header makes the new incarnation durable and says where the log before it ended.
    pub(super) async fn begin(
        mut self,
        end: LogPosition,
        mut segments: Segments<R::File>,
        checkpoints: CheckpointFiles<R>,
    ) -> Result<Core<R>, OpenError> {
        self.incarnation = self.incarnation.next();
        let number = segments.next_number;
        segments.next_number = number.next();
        match segments.live.get(&end.segment).map(|live| live.header) {
            Some(header) if self.index.open_number() == header.number => self.seal(&header, end.byte, number)?,
            _ => self.index.set_open(number).map_err(|_| self.damaged_at(number))?,
        }
        let mut bytes = self.options.segment_bytes;
        let directory = self.options.directory.clone();
        let file = match segments.free.iter().position(|file| file.bytes == bytes) {
            Some(index) => segments.free.remove(index).expect("the position was just found"),
            None => {
                let id = segments.next_file;
                segments.next_file = FileId::new(id.value() + 1);
                let path = directory.join(segment_file_name(id));
                let mut created = self.runtime.create(&path, u64::from(bytes)).await;
                if created.as_ref().is_err_and(is_out_of_space) {
                    self.give_back_rest(&segments, end.segment).await;
                }
                // A small one does as well: the next is of the usual size again.
                let block_bytes = u32::try_from(self.options.block_bytes).expect("a block is smaller than a segment");
                while created.as_ref().is_err_and(is_out_of_space) && bytes / 2 >= 2 * block_bytes {
                    bytes = bytes / 2 / block_bytes * block_bytes;
                    created = self.runtime.create(&path, u64::from(bytes)).await;
                }
                SegmentFile { id, bytes, prepared: 0, file: created.map_err(failed("create", &path))? }
            }
        };
        // Also for a file that an earlier life created and whose name it did not live to make durable.
        self.runtime.sync_directory(&directory).await.map_err(failed("sync", &directory))?;
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            shard: self.options.shard,
            stream: Stream::Hot,
            number,
            incarnation: self.incarnation,
            bytes,
            predecessor: end,
            checkpoint_sequence: checkpoints.durable_sequence(),
            durable: end,
        };
        let content = header.encode();
        let mut block = self.runtime.allocate(content.len());
        block.as_mut_slice().copy_from_slice(&content);
        let path = directory.join(segment_file_name(file.id));
        file.file.write_at(Rc::new(block), 0).await.map_err(failed("write", &path))?;
        file.file.flush().await.map_err(failed("flush", &path))?;
        let live = LiveSegment { header, file: Some(file), sealed_end: None };
        segments.live.insert(number, live);
        let start = LogPosition { segment: number, byte: SEGMENT_HEADER_BYTES };
        // In blocks of one unit the header is a block of its own.
        let filled = content.len() % self.options.block_bytes;
        Ok(self.finish(start, &content[..filled], segments, checkpoints))
    }

    /// Makes room for the next segment: by what the one that ended did not use.
    async fn give_back_rest(&self, segments: &Segments<R::File>, number: SegmentNumber) {
        let footer = self.footers.iter().find(|footer| footer.trailer.number == number);
        let Some((footer, live)) = footer.zip(segments.live.get(&number)) else { return };
        let Some((rest, file)) = footer.unused(live.header.bytes).zip(live.file.as_ref()) else { return };
        // What there is then still no room for says so itself.
        let _ = file.file.give_back(u64::from(rest.start), u64::from(rest.end - rest.start)).await;
    }

    /// The store, whose log ends durably at `end`; `content` is what the block there holds so far.
    pub(super) fn finish(
        self,
        end: LogPosition,
        content: &[u8],
        segments: Segments<R::File>,
        checkpoints: CheckpointFiles<R>,
    ) -> Core<R> {
        let Recovery { runtime, options, index, partitions, footers, next_log, incarnation, .. } = self;
        // Those first whose segment has not given its unused space back: also a short life gets to them.
        let is_sparse = |footer: &Footer| {
            let file = segments.live.get(&footer.trailer.number).and_then(|live| live.file.as_ref());
            file.is_some_and(|file| file.file.is_sparse())
        };
        let (later, first): (Vec<Footer>, Vec<Footer>) = footers.into_iter().partition(is_sparse);
        let footers = first.into_iter().chain(later).collect();
        let mut writer = SegmentWriter::new(options.block_bytes, end);
        let mut tail = Tail::new(options.block_bytes);
        let block = writer.continue_segment(content, runtime.allocate(options.block_bytes));
        tail.push(block.segment, block.start, block.block);
        let partitions = partitions.into_iter().map(|(log, known)| (log, (known.topic, known.partition))).collect();
        let space = Space::new(segments.used_bytes(), runtime.now());
        let state = State {
            writer,
            tail,
            index,
            partitions,
            segments,
            holds: SegmentHolds::new(),
            durable: end,
            flush_ends: VecDeque::new(),
            flush_forced: false,
            footers,
            footers_unflushed: BTreeSet::new(),
            failure: None,
            checkpoint_wanted: false,
            space_wanted: false,
            space,
            cleaning: Cleaning::default(),
            sealed: 0,
            appended_at_checkpoint: 0,
            checkpointed_at: runtime.now(),
            next_log,
            incarnation,
            checkpoint_sequence: checkpoints.durable_sequence(),
            stopping: false,
            part_waiting: None,
            pace: Pace::default(),
            preparation: Preparation::default(),
            stats: StoreStats::default(),
        };
        Core {
            cold: ColdCache::new(runtime.clone(), cold_bytes_max(&options)),
            runtime,
            options,
            state: RefCell::new(state),
            owner: RefCell::new(None),
            checkpoints: RefCell::new(Some(checkpoints)),
            bells: Bells::default(),
        }
    }
}

//! What is damaged in a store, and whether anything that lives is lost by it.
//!
//! Three steps, so that the second can be done by several threads: [`Inspection::tasks`] says which segments are to be read,
//! [`SegmentTask::check`] reads one, [`Inspection::verdict`] puts together what was found. Damage is what is not as it was written
//! among bytes that must be there. A torn end of the log is none, unless something proves that more was durable; what was never
//! written, what an earlier life of a file left, and the rest of a unit behind an entry hold nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use super::segment::{Fault, FaultPart, SegmentCheck, SegmentTask};
use super::{InspectError, Inspection};
use crate::runtime::Runtime;
use crate::store::checkpoint::files::{Condition, conditions};
use crate::store::format::{DirectoryRow, SEGMENT_HEADER_BYTES, Stream, segment_file_name, usize_of};
use crate::store::recovery::LookedSegment;
use crate::store::{LostOffsets, OpenError};
use crate::types::{LogId, LogPosition, Offset, PartitionIndex, SegmentNumber, TopicId};

/// Something that is not as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The segment, if it is one's.
    pub segment: Option<SegmentNumber>,
    /// Name of the file; empty when no file is known to be the one.
    pub file: String,
    /// Which bytes of it, as far as that is known.
    pub bytes: Option<Range<u64>>,
    /// What is wrong with them.
    pub what: String,
    /// Records that cannot be read for it.
    pub parts: Vec<DamagedPart>,
}

/// Records of one partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DamagedPart {
    /// Their log.
    pub log: LogId,
    /// The partition, if it exists.
    pub partition: Option<(TopicId, PartitionIndex)>,
    /// Offset of the first.
    pub first: Offset,
    /// Offset of the last.
    pub last: Offset,
    /// They are not dead, nor anywhere else.
    pub is_live: bool,
}

impl Damage {
    /// Whether something that lives is lost by it.
    pub fn loses_live(&self) -> bool {
        self.parts.iter().any(|part| part.is_live)
    }
}

impl<R: Runtime> Inspection<R> {
    /// The segments to read: those that make up the store now.
    pub fn tasks(&self) -> Vec<SegmentTask> {
        self.looked.segments.iter().map(|segment| self.task(segment)).collect()
    }

    fn task(&self, segment: &LookedSegment) -> SegmentTask {
        let LookedSegment { header, end, file, .. } = *segment;
        let head = &self.looked.head;
        let named = head.segments.iter().find(|named| named.number == header.number);
        let covered = head.covered;
        // What the checkpoint covers was durable. Behind it the log ends where it ends, unless that was proven wrong.
        let sealed_end = named.and_then(|named| named.data_end);
        let is_covered = header.stream == Stream::Cold || header.number < covered.segment;
        let until = match sealed_end {
            Some(sealed_end) if is_covered => sealed_end,
            _ if header.number == covered.segment => covered.byte,
            _ => end,
        };
        let has_footer = is_covered && sealed_end.is_some();
        SegmentTask {
            number: header.number,
            file,
            incarnation: header.incarnation,
            bytes: header.bytes,
            until: until.max(end),
            has_footer,
            is_broken: self.damage().is_some_and(|(position, _)| position.segment == header.number) && !is_covered,
        }
    }

    /// All that is damaged, by segment and byte.
    pub fn verdict(&self, checks: Vec<SegmentCheck>) -> Vec<Damage> {
        let mut all: Vec<Damage> = Vec::new();
        for check in checks {
            let SegmentCheck { task, faults, rows } = check;
            all.extend(faults.into_iter().map(|fault| self.damage_of(&task, fault, &rows)));
        }
        for number in &self.looked.missing {
            let named = self.looked.head.segments.iter().find(|named| named.number == *number);
            let file = named.map_or_else(String::new, |named| segment_file_name(named.file));
            let what = "the checkpoint names this segment, and no file holds it".to_owned();
            all.push(Damage { segment: Some(*number), file, bytes: None, what, parts: Vec::new() });
        }
        if let Some((position, lost)) = self.damage() {
            self.add_lost(&mut all, *position, lost);
        }
        all.sort_by_key(|damage| (damage.segment, damage.bytes.as_ref().map(|bytes| bytes.start)));
        all
    }

    fn damage_of(&self, task: &SegmentTask, fault: Fault, rows: &[DirectoryRow]) -> Damage {
        let parts = fault.parts.iter().filter_map(|part| self.part(task, part, rows)).collect();
        Damage {
            segment: Some(task.number),
            file: segment_file_name(task.file),
            bytes: Some(fault.bytes),
            what: fault.what,
            parts,
        }
    }

    fn part(&self, task: &SegmentTask, part: &FaultPart, rows: &[DirectoryRow]) -> Option<DamagedPart> {
        let state = self.looked.core.state.borrow();
        let log_start = state.index.log_start(part.log);
        let is_here = match part.row {
            Some(row) => state.index.has_row(task.number, row, &rows[usize_of(row)]),
            None => state.index.locate(part.log, part.base, 1).is_some_and(|place| place.segment == task.number),
        };
        let is_live = is_here && log_start.is_some_and(|start| part.end > start);
        let first = match log_start {
            Some(start) if is_live => part.base.max(start),
            _ => part.base,
        };
        let last = Offset::new(part.end.value() - 1);
        let partition = state.partitions.get(&part.log).copied();
        (first <= last).then_some(DamagedPart { log: part.log, partition, first, last, is_live })
    }

    /// What a start would miss: told where its bytes are told, if they are.
    fn add_lost(&self, all: &mut Vec<Damage>, position: LogPosition, lost: &[LostOffsets]) {
        let state = self.looked.core.state.borrow();
        let parts = lost.iter().map(|lost| DamagedPart {
            log: lost.log,
            partition: state.partitions.get(&lost.log).copied(),
            first: lost.first,
            last: lost.last,
            is_live: true,
        });
        // What the footers told already of the same records is not told again.
        let mut told: BTreeMap<LogId, Vec<(Offset, Offset)>> = BTreeMap::new();
        for part in all.iter().flat_map(|damage| &damage.parts).filter(|part| part.is_live) {
            told.entry(part.log).or_default().push((part.first, part.last));
        }
        let is_told = |part: &DamagedPart| {
            told.get(&part.log)
                .is_some_and(|ranges| ranges.iter().any(|(first, last)| *first <= part.first && part.last <= *last))
        };
        let parts: Vec<DamagedPart> = parts.filter(|part| !is_told(part)).collect();
        let is_place = |damage: &&mut Damage| damage.segment == Some(position.segment);
        if let Some(place) = all.iter_mut().filter(is_place).find(|damage| {
            damage.bytes.as_ref().is_none_or(|bytes| bytes.end > u64::from(position.byte.max(SEGMENT_HEADER_BYTES)))
        }) {
            place.parts.extend(parts);
            return;
        }
        let live = state.segments.live.get(&position.segment);
        let file = live.and_then(|live| live.file.as_ref());
        // Behind it nothing is left that says where it ended.
        let durable = self.looked.durable;
        let end = match live {
            _ if durable.segment == position.segment => durable.byte,
            Some(live) => live.header.bytes,
            None => position.byte,
        };
        all.push(Damage {
            segment: Some(position.segment),
            file: file.map_or_else(String::new, |file| segment_file_name(file.id)),
            bytes: Some(u64::from(position.byte)..u64::from(end.max(position.byte))),
            what: "the log ends here, though more of it was durable".to_owned(),
            parts,
        });
    }

    /// Files that do not read whole and are not needed: a checkpoint that is being written, or that a crash left.
    ///
    /// Errors: as [`Inspection::open`].
    pub async fn remarks(&self) -> Result<Vec<String>, InspectError> {
        let directory = &self.looked.core.options.directory;
        let found = conditions(&self.runtime, directory).await.map_err(OpenError::from)?;
        let broken = found.into_iter().filter(|(_, condition)| *condition == Condition::Broken);
        let sequence = self.looked.core.state.borrow().checkpoint_sequence;
        let said = broken.map(|(name, _)| {
            format!(
                "{name} does not read whole: it is being written, a crash ended that, or it is damaged; nothing is lost by it, \
                 checkpoint {sequence} counts"
            )
        });
        Ok(said.collect())
    }
}

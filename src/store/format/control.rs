//! Control entries: facts about a log.

use super::{Cursor, FormatError};
use crate::types::{LogId, Offset, PartitionIndex, TopicId};

/// What a control entry says of its log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Control {
    /// The log begins: a new life of a partition.
    Create {
        /// The topic.
        topic: TopicId,
        /// The partition's index in it.
        partition: PartitionIndex,
    },
    /// The log ended; its id never comes back.
    Delete,
    /// The first offset that may be read.
    LogStart {
        /// That offset.
        offset: Offset,
    },
    /// The log takes the place of another of the same partition, from an offset on: what a truncation makes.
    Successor {
        /// The topic.
        topic: TopicId,
        /// The partition's index in it.
        partition: PartitionIndex,
        /// Where it begins, and where the one that it continues is cut.
        from: Offset,
        /// The log that it continues; `None` when nothing before `from` is kept.
        continues: Option<LogId>,
    },
}

impl Control {
    /// The payload of the entry.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(37);
        match self {
            Control::Create { topic, partition } => {
                out.push(1);
                out.extend_from_slice(&topic.bytes());
                out.extend_from_slice(&partition.value().to_le_bytes());
            }
            Control::Delete => out.push(2),
            Control::LogStart { offset } => {
                out.push(3);
                out.extend_from_slice(&offset.value().to_le_bytes());
            }
            Control::Successor { topic, partition, from, continues } => {
                out.push(4);
                out.extend_from_slice(&topic.bytes());
                out.extend_from_slice(&partition.value().to_le_bytes());
                out.extend_from_slice(&from.value().to_le_bytes());
                out.extend_from_slice(&continues.map_or(0, LogId::value).to_le_bytes());
            }
        }
        out
    }

    /// Reads a payload.
    ///
    /// Errors: `Truncated`, or `Field` for an unknown tag or trailing bytes.
    pub fn decode(payload: &[u8]) -> Result<Control, FormatError> {
        let mut cursor = Cursor::new(payload);
        let control = match cursor.u8()? {
            1 => {
                Control::Create { topic: TopicId::new(cursor.array()?), partition: PartitionIndex::new(cursor.i32()?) }
            }
            2 => Control::Delete,
            3 => Control::LogStart { offset: Offset::new(cursor.i64()?) },
            4 => Control::Successor {
                topic: TopicId::new(cursor.array()?),
                partition: PartitionIndex::new(cursor.i32()?),
                from: Offset::new(cursor.i64()?),
                // Log id 0 is never given.
                continues: Some(cursor.number("log id")?).filter(|log| *log != 0).map(LogId::new),
            },
            _ => return Err(FormatError::Field { field: "control tag" }),
        };
        if cursor.left() != 0 {
            return Err(FormatError::Field { field: "control length" });
        }
        Ok(control)
    }
}

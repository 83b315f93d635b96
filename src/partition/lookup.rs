//! Offsets by timestamp inside one stored batch, for ListOffsets: the index finds the batch, this finds the record.

use crate::protocol::compression::{Codec, DecompressError, Scratch};
use crate::protocol::record_batch::{BatchView, RecordsError, TimestampType, walk};
use crate::types::{Offset, TimestampMs};

/// The first record at or after `timestamp` whose offset is at least `from`, with its own timestamp.
///
/// `from` is the log start or the start of the search: records of the batch before it count as gone. Timestamps inside a
/// batch need not rise, so this is the first in offset order, as in Kafka's `FileRecords.searchForTimestamp`.
pub fn first_record_at_or_after(
    batch: &BatchView<'_>,
    from: Offset,
    timestamp: TimestampMs,
    scratch: &mut Scratch,
) -> Result<Option<(Offset, TimestampMs)>, RecordsError> {
    if batch.header.max_timestamp < timestamp || batch.header.last_offset() < from {
        return Ok(None);
    }
    if batch.header.timestamp_type() == TimestampType::LogAppendTime {
        // Every record has the time of the append.
        return Ok(Some((batch.header.base_offset.max(from), batch.header.max_timestamp)));
    }
    let mut found = None;
    walk_stored(batch, scratch, |offset, time| {
        if time >= timestamp && offset >= from {
            found = Some((offset, time));
        }
        found.is_none()
    })?;
    Ok(found)
}

/// The first record that has the batch's greatest timestamp, for ListOffsets -3.
///
/// With log append time it is the batch's first record. A batch without any timestamp answers with its first record
/// and -1.
pub fn record_with_max_timestamp(
    batch: &BatchView<'_>,
    scratch: &mut Scratch,
) -> Result<(Offset, TimestampMs), RecordsError> {
    let first = (batch.header.base_offset, batch.header.max_timestamp);
    if batch.header.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(first);
    }
    let mut greatest: Option<(Offset, TimestampMs)> = None;
    walk_stored(batch, scratch, |offset, time| {
        if greatest.is_none_or(|(_, most)| time > most) {
            greatest = Some((offset, time));
        }
        // The header's greatest timestamp was corrected at the append: nothing later can exceed it.
        greatest.is_none_or(|(_, most)| most < batch.header.max_timestamp)
    })?;
    Ok(greatest.unwrap_or(first))
}

fn walk_stored(
    batch: &BatchView<'_>,
    scratch: &mut Scratch,
    mut visit: impl FnMut(Offset, TimestampMs) -> bool,
) -> Result<(), RecordsError> {
    let codec =
        batch.header.codec().ok_or(DecompressError::Corrupt { codec: Codec::None, cause: "undefined codec" })?;
    walk(codec, batch.records(), batch.header.record_count, scratch, |record| {
        visit(batch.header.offset_of(record.offset_delta), batch.header.timestamp_of(record.timestamp_delta))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{BatchBuilder, set_timestamps};

    fn batch(codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for time in [100, 300, 200, 300, 50] {
            builder.append(TimestampMs::new(time), None, Some(&[7; 1000]), &[]);
        }
        builder.base_offset(Offset::new(10)).build()
    }

    fn find(bytes: &[u8], from: i64, time: i64) -> Option<(i64, i64)> {
        let view = BatchView::parse(bytes).unwrap();
        first_record_at_or_after(&view, Offset::new(from), TimestampMs::new(time), &mut Scratch::new())
            .unwrap()
            .map(|(offset, time)| (offset.value(), time.value()))
    }

    #[test]
    fn the_first_record_in_offset_order_answers() {
        for codec in Codec::ALL {
            let bytes = batch(codec);
            assert_eq!(find(&bytes, 0, 0), Some((10, 100)));
            assert_eq!(find(&bytes, 0, 101), Some((11, 300)));
            assert_eq!(find(&bytes, 12, 101), Some((12, 200)));
            assert_eq!(find(&bytes, 12, 201), Some((13, 300)));
            assert_eq!(find(&bytes, 14, 60), None);
            assert_eq!(find(&bytes, 0, 301), None);
            assert_eq!(find(&bytes, 15, 0), None);
        }
    }

    #[test]
    fn the_first_of_the_greatest_timestamps_answers() {
        for codec in Codec::ALL {
            let bytes = batch(codec);
            let view = BatchView::parse(&bytes).unwrap();
            let found = record_with_max_timestamp(&view, &mut Scratch::new()).unwrap();
            assert_eq!(found, (Offset::new(11), TimestampMs::new(300)));
        }
    }

    #[test]
    fn with_log_append_time_every_record_has_the_batchs_time() {
        let mut bytes = batch(Codec::None);
        let (header, records) = bytes.split_first_chunk_mut().unwrap();
        set_timestamps(header, records, TimestampType::LogAppendTime, TimestampMs::new(900));
        assert_eq!(find(&bytes, 12, 900), Some((12, 900)));
        assert_eq!(find(&bytes, 0, 901), None);
        let view = BatchView::parse(&bytes).unwrap();
        let found = record_with_max_timestamp(&view, &mut Scratch::new()).unwrap();
        assert_eq!(found, (Offset::new(10), TimestampMs::new(900)));
    }
}

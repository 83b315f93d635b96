//! Which batches of a log nobody needs, by its transactions: what the broker will know once it has them. As Kafka's
//! `CleanedTransactionMetadata`, from the markers themselves instead of an index.

use std::collections::{BTreeMap, BTreeSet};

use corelane::types::{Offset, ProducerId};

use crate::driver::{header, rows};

/// For each batch of a log whose transactions have all ended, whether it may go.
pub(crate) fn discardable(log: &[Vec<u8>]) -> Vec<bool> {
    let aborted = aborted(log);
    let mut with_data: BTreeSet<ProducerId> = BTreeSet::new();
    log.iter()
        .map(|batch| {
            let header = header(batch);
            if header.is_control() {
                // Once for each transaction: the next of this producer begins anew. An empty marker was useless before.
                let had_data = with_data.remove(&header.producer_id);
                header.record_count == 0 || !had_data
            } else if header.is_transactional() {
                with_data.insert(header.producer_id);
                aborted.iter().any(|(producer, first, last)| {
                    *producer == header.producer_id && *first <= header.base_offset && header.base_offset < *last
                })
            } else {
                false
            }
        })
        .collect()
}

/// Producer, first offset, offset of the marker.
fn aborted(log: &[Vec<u8>]) -> Vec<(ProducerId, Offset, Offset)> {
    let mut open: BTreeMap<ProducerId, Offset> = BTreeMap::new();
    let mut aborted = Vec::new();
    for batch in log {
        let header = header(batch);
        if !header.is_transactional() {
            continue;
        }
        if !header.is_control() {
            open.entry(header.producer_id).or_insert(header.base_offset);
            continue;
        }
        let first = open.remove(&header.producer_id);
        // Key of a marker: version i16, type i16; 0 is abort.
        let is_abort = rows(batch).first().is_some_and(|row| row.key.as_deref() == Some(&[0, 0, 0, 0]));
        if let Some(first) = first.filter(|_| is_abort) {
            aborted.push((header.producer_id, first, header.base_offset));
        }
    }
    aborted
}

//! Filling batches with records that differ, in size or by key: each is drawn, and written to its partition's batch.

use std::collections::VecDeque;

use corelane::protocol::record_batch::BATCH_HEADER_BYTES;

use super::outlet::Outlet;
use crate::lab::generator::batch::{Batch, Due, account, header};
use crate::lab::generator::bounds::PRODUCER_BYTES_MAX;
use crate::lab::generator::clock::MICROSECOND_NS;
use crate::lab::generator::context::Context;
use crate::lab::generator::mixture::{Draw, Mixture};
use crate::lab::generator::plan::Plan;
use crate::lab::generator::schedule::{Schedule, nanoseconds};
use crate::lab::number::{narrow, size, wide};

/// The batches that are being filled, at most one for each partition.
pub(super) struct Varied {
    /// Records that were taken up.
    pub(super) taken: u64,
    /// By partition.
    open: Vec<Option<Box<Open>>>,
    /// By leader, in the order in which they were begun. An entry whose batch is gone is skipped.
    begun: Vec<VecDeque<(u64, u32)>>,
    open_bytes: usize,
    /// Bytes of the fullest of them; that of one that is gone, if nobody looked since.
    fullest_bytes: usize,
    is_fullest_gone: bool,
    /// The partition of the next batch, for records without keys.
    slot: u32,
    linger_ns: u64,
}

/// A batch that is being filled.
struct Open {
    records: Vec<u8>,
    first_ns: u64,
    after_us: Vec<u32>,
    payload_bytes: u64,
}

impl Varied {
    pub(super) fn new(plan: &Plan, slot: u32) -> Varied {
        Varied {
            taken: 0,
            open: plan.slots.iter().map(|_| None).collect(),
            begun: plan.leaders.iter().map(|_| VecDeque::new()).collect(),
            open_bytes: 0,
            fullest_bytes: 0,
            is_fullest_gone: false,
            slot,
            linger_ns: nanoseconds(plan.workload.linger_ms / 1e3),
        }
    }

    /// Takes up what is due and hands over what is full or overdue. Returns when it has to be called again.
    pub(super) fn advance(
        &mut self,
        schedule: Option<&Schedule>,
        now_ns: u64,
        mixture: &mut Mixture,
        outlet: &mut Outlet,
        context: &mut Context,
    ) -> u64 {
        match schedule {
            Some(schedule) => self.take_up(schedule, now_ns, mixture, outlet, context),
            None => self.fill_up(now_ns, mixture, outlet, context),
        }
        let overdue_ns = self.close_overdue(now_ns, mixture, outlet, context);
        match schedule {
            Some(schedule) if !self.is_full(outlet) => {
                let full_ns = self.full_at_earliest(schedule, mixture, context);
                overdue_ns.min(full_ns).min(schedule.due(self.taken) + self.linger_ns)
            }
            // The next answer makes room.
            _ => overdue_ns,
        }
    }

    /// When the next batch can be full: the fullest, if all records to come were its own and as large as they get.
    fn full_at_earliest(&mut self, schedule: &Schedule, mixture: &Mixture, context: &Context) -> u64 {
        if self.is_fullest_gone {
            let begun = self.begun.iter().flatten().filter_map(|(_, slot)| self.open[size(*slot)].as_ref());
            self.fullest_bytes = begun.map(|open| open.records.len()).max().unwrap_or(0);
            self.is_fullest_gone = false;
        }
        let room = records_bytes_max(context).saturating_sub(self.fullest_bytes);
        let records = wide(room / mixture.record_bytes_max());
        schedule.due(self.taken + records)
    }

    fn take_up(
        &mut self,
        schedule: &Schedule,
        now_ns: u64,
        mixture: &mut Mixture,
        outlet: &mut Outlet,
        context: &mut Context,
    ) {
        let due = schedule.due_by(now_ns);
        while self.taken < due && !self.is_full(outlet) {
            self.append(schedule.due(self.taken), mixture, outlet, context);
        }
    }

    /// Draws records until every connection has as much as it takes.
    fn fill_up(&mut self, now_ns: u64, mixture: &mut Mixture, outlet: &mut Outlet, context: &mut Context) {
        while outlet.is_wanting(context) && context.plan.records_max.is_none_or(|max| self.taken < max) {
            if self.is_full(outlet) {
                // As in Kafka's client, batches leave before they are full when memory is.
                self.close_all(mixture, outlet, context);
                return;
            }
            self.append(now_ns, mixture, outlet, context);
        }
    }

    fn is_full(&self, outlet: &Outlet) -> bool {
        self.open_bytes + outlet.ready_bytes() >= PRODUCER_BYTES_MAX
    }

    /// Draws one record and writes it to its batch, after the batch that it does not fit into.
    fn append(&mut self, due_ns: u64, mixture: &mut Mixture, outlet: &mut Outlet, context: &mut Context) {
        let draw = mixture.draw(self.taken);
        let mut slot = draw.slot.unwrap_or(self.slot);
        let records_bytes_max = records_bytes_max(context);
        if let Some(open) = &self.open[size(slot)]
            && open.records.len() + mixture.bytes_max(&draw) > records_bytes_max
        {
            self.close(slot, mixture, outlet, context);
            slot = draw.slot.unwrap_or(self.slot);
        }
        let leader = size(context.plan.slots[size(slot)].leader);
        let open = match &mut self.open[size(slot)] {
            Some(open) => open,
            none => {
                self.begun[leader].push_back((due_ns, slot));
                none.insert(Box::new(Open::at(due_ns)))
            }
        };
        let before = open.records.len();
        open.append(due_ns, draw, mixture);
        self.open_bytes += open.records.len() - before;
        self.fullest_bytes = self.fullest_bytes.max(open.records.len());
        self.taken += 1;
    }

    /// Hands over the batches whose linger is over, as far as their connections are free: the others go on filling.
    /// Returns when the next will be overdue.
    fn close_overdue(&mut self, now_ns: u64, mixture: &mut Mixture, outlet: &mut Outlet, context: &mut Context) -> u64 {
        let mut wake_ns = u64::MAX;
        for leader in 0..self.begun.len() {
            while let Some((first_ns, slot)) = self.begun[leader].front().copied() {
                if self.open[size(slot)].as_ref().is_none_or(|open| open.first_ns != first_ns) {
                    self.begun[leader].pop_front();
                } else if !outlet.is_free(slot, context) {
                    break;
                } else if first_ns + self.linger_ns > now_ns {
                    wake_ns = wake_ns.min(first_ns + self.linger_ns);
                    break;
                } else {
                    self.begun[leader].pop_front();
                    self.close(slot, mixture, outlet, context);
                }
            }
        }
        wake_ns
    }

    /// Hands over every batch.
    pub(super) fn close_all(&mut self, mixture: &mut Mixture, outlet: &mut Outlet, context: &mut Context) {
        for slot in 0..narrow(self.open.len()) {
            self.close(slot, mixture, outlet, context);
        }
        self.begun.iter_mut().for_each(VecDeque::clear);
    }

    fn close(&mut self, slot: u32, mixture: &mut Mixture, outlet: &mut Outlet, context: &mut Context) {
        let Some(open) = self.open[size(slot)].take() else { return };
        self.open_bytes -= open.records.len();
        self.is_fullest_gone |= open.records.len() == self.fullest_bytes;
        let count = narrow(open.after_us.len());
        let due = Due::Each { first_ns: open.first_ns, after_us: open.after_us };
        let records = mixture.compress(open.records);
        let origin = outlet.origin(slot, count);
        let checksum = |first: &[u8]| crc32c::crc32c_append(crc32c::crc32c(first), &records);
        let header = header(mixture.codec(), count, records.len(), &due, origin, checksum);
        let account = account(slot, count, open.payload_bytes, records.len(), due);
        outlet.push(Batch { header, records, account }, context);
        if slot == self.slot {
            self.slot = narrow((size(self.slot) + 1) % context.plan.slots.len());
        }
    }
}

/// Bytes of the records of a full batch.
fn records_bytes_max(context: &Context) -> usize {
    size(context.plan.workload.batch_bytes).saturating_sub(BATCH_HEADER_BYTES)
}

impl Open {
    fn at(first_ns: u64) -> Open {
        Open { records: Vec::new(), first_ns, after_us: Vec::new(), payload_bytes: 0 }
    }

    fn append(&mut self, due_ns: u64, draw: Draw, mixture: &mut Mixture) {
        // Timestamps are whole microseconds each, so distances are between those.
        let after_us = due_ns / MICROSECOND_NS - self.first_ns / MICROSECOND_NS;
        let index = narrow(self.after_us.len());
        self.payload_bytes += wide(mixture.write(&mut self.records, after_us, index, draw));
        self.after_us.push(u32::try_from(after_us).unwrap_or(u32::MAX));
    }
}

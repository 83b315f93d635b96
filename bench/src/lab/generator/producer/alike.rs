//! Filling batches with records that are all alike: a matter of counting, since the template has their bytes.

use super::outlet::Outlet;
use crate::lab::generator::bounds::READY_BATCHES_MAX;
use crate::lab::generator::context::Context;
use crate::lab::generator::schedule::{Schedule, nanoseconds};
use crate::lab::generator::template::Template;
use crate::lab::number::{narrow, size};
use crate::lab::workload::Workload;

/// The one batch that is being filled.
pub(super) struct Alike {
    /// Records that were taken up.
    pub(super) taken: u64,
    /// The last of them that are in no batch yet.
    open: u32,
    /// The partition that gets the next batch.
    slot: u32,
    linger_ns: u64,
}

impl Alike {
    pub(super) fn new(workload: &Workload, slot: u32) -> Alike {
        Alike { taken: 0, open: 0, slot, linger_ns: nanoseconds(workload.linger_ms / 1e3) }
    }

    /// Takes up what is due and hands over what is full or overdue. Returns when it has to be called again.
    pub(super) fn advance(
        &mut self,
        schedule: Option<&Schedule>,
        now_ns: u64,
        template: &mut Template,
        outlet: &mut Outlet,
        context: &mut Context,
    ) -> u64 {
        match schedule {
            Some(schedule) => self.take_up(schedule, now_ns, template, outlet, context),
            None => {
                self.fill_up(now_ns, template, outlet, context);
                u64::MAX
            }
        }
    }

    fn take_up(
        &mut self,
        schedule: &Schedule,
        now_ns: u64,
        template: &mut Template,
        outlet: &mut Outlet,
        context: &mut Context,
    ) -> u64 {
        let due = schedule.due_by(now_ns);
        let records_max = template.records_max();
        loop {
            if outlet.ready_batches() >= READY_BATCHES_MAX {
                // The next answer makes room.
                return u64::MAX;
            }
            let count = (due - self.taken).min(u64::from(records_max - self.open));
            self.taken += count;
            self.open += u32::try_from(count).expect("a batch holds fewer");
            if self.open < records_max {
                break;
            }
            self.close(Some(schedule), template, outlet, context);
        }
        if self.open == 0 {
            return schedule.due(self.taken);
        }
        let first = self.taken - u64::from(self.open);
        let full_ns = schedule.due(first + u64::from(records_max) - 1);
        let overdue_ns = schedule.due(first) + self.linger_ns;
        let is_free = outlet.is_free(self.slot, context);
        if now_ns >= overdue_ns && is_free {
            self.close(Some(schedule), template, outlet, context);
            return schedule.due(self.taken);
        }
        // A batch that cannot be sent goes on filling, as in Kafka's client.
        if is_free { full_ns.min(overdue_ns) } else { full_ns }
    }

    /// Gives every connection as many full batches as it takes.
    fn fill_up(&mut self, now_ns: u64, template: &mut Template, outlet: &mut Outlet, context: &mut Context) {
        let records = template.records_max();
        for link in 0..outlet.link_count() {
            for _ in 0..outlet.batches_wanted(link, context) {
                if context.plan.records_max.is_some_and(|max| self.taken >= max) {
                    return;
                }
                let slot = outlet.next_slot(link);
                let origin = outlet.origin(slot, records);
                let batch = template.batch(slot, records, now_ns, origin);
                self.taken += u64::from(records);
                outlet.push(batch, context);
            }
        }
    }

    /// Hands over the open batch, if there is one; the next goes to the next partition.
    pub(super) fn close(
        &mut self,
        schedule: Option<&Schedule>,
        template: &mut Template,
        outlet: &mut Outlet,
        context: &mut Context,
    ) {
        // A maximum leaves no batch open.
        let (Some(schedule), 1..) = (schedule, self.open) else { return };
        let first_ns = schedule.due(self.taken - u64::from(self.open));
        let origin = outlet.origin(self.slot, self.open);
        outlet.push(template.batch(self.slot, self.open, first_ns, origin), context);
        self.open = 0;
        self.slot = narrow((size(self.slot) + 1) % context.plan.slots.len());
    }
}

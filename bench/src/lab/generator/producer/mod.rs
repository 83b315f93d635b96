//! One producer: takes up records when they are due, puts them into batches as Kafka's client does, sends, and accounts
//! for the answers.

mod alike;
mod link;
mod outlet;
mod varied;

use alike::Alike;
use outlet::Outlet;
use varied::Varied;

use super::connection::Connection;
use super::context::Context;
use super::plan::Plan;
use super::schedule::Schedule;
use super::supply::Supply;
use crate::lab::number::narrow;

/// One producer with its connections.
pub(super) struct Producer {
    /// Its number among all producers.
    index: u32,
    /// None for a maximum.
    schedule: Option<Schedule>,
    filling: Filling,
    outlet: Outlet,
    /// When `advance` is to be called, if nothing happens before.
    pub(super) wake_ns: u64,
    is_stopped: bool,
}

/// How batches are filled, as the thread's supply has records.
enum Filling {
    Alike(Alike),
    Varied(Varied),
}

impl Producer {
    /// Producer `index` of all, connected to every leader, with its id if it is idempotent.
    pub(super) fn connect(plan: &Plan, index: u32) -> Result<Producer, Box<dyn std::error::Error>> {
        let slots = narrow(plan.slots.len());
        // Producers begin at different partitions.
        let slot = u64::from(index) * u64::from(slots) / u64::from(plan.workload.producers);
        let slot = u32::try_from(slot).expect("below the number of partitions");
        let filling = if Supply::is_alike(&plan.workload) {
            Filling::Alike(Alike::new(&plan.workload, slot))
        } else {
            Filling::Varied(Varied::new(plan, slot))
        };
        let outlet = Outlet::connect(plan, slot)?;
        Ok(Producer { index, schedule: None, filling, outlet, wake_ns: u64::MAX, is_stopped: false })
    }

    /// Sets the moment at which the load begins.
    pub(super) fn start(&mut self, plan: &Plan, start_ns: u64) {
        let producers = plan.workload.producers;
        let schedule = |interval| Schedule::staggered(start_ns, interval, self.index, producers);
        self.schedule = plan.interval.map(schedule);
        self.wake_ns = start_ns;
    }

    /// Its connections, to be watched.
    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.outlet.connections()
    }

    /// The connection to leader `link`.
    pub(super) fn connection(&self, link: usize) -> &Connection {
        self.outlet.connection(link)
    }

    /// Connections that are of no use any more.
    pub(super) fn broken_count(&self) -> usize {
        self.outlet.broken_count()
    }

    /// Records that are due and neither acknowledged nor failed.
    pub(super) fn unacknowledged(&self, now_ns: u64) -> u64 {
        let due = match &self.schedule {
            Some(schedule) if !self.is_stopped => schedule.due_by(now_ns),
            _ => self.taken(),
        };
        due.saturating_sub(self.outlet.settled)
    }

    /// Whether every record that was taken up is acknowledged or has failed.
    pub(super) fn is_settled(&self) -> bool {
        self.outlet.settled == self.taken()
    }

    /// Takes up what is due by now, and nothing after it.
    pub(super) fn stop(&mut self, now_ns: u64, supply: &mut Supply, context: &mut Context) {
        self.advance(now_ns, supply, context);
        self.is_stopped = true;
        self.wake_ns = u64::MAX;
        match (&mut self.filling, supply) {
            (Filling::Alike(alike), Supply::Alike(template)) => {
                alike.close(self.schedule.as_ref(), template, &mut self.outlet, context);
            }
            (Filling::Varied(varied), Supply::Varied(mixture)) => {
                varied.close_all(mixture, &mut self.outlet, context);
            }
            _ => unreachable!("{MATCH}"),
        }
        self.outlet.send(now_ns, context);
    }

    /// Takes up what is due and sends what can be sent. Returns how many records were taken up.
    pub(super) fn advance(&mut self, now_ns: u64, supply: &mut Supply, context: &mut Context) -> u64 {
        let before = self.taken();
        if !self.is_stopped {
            let schedule = self.schedule.as_ref();
            self.wake_ns = match (&mut self.filling, supply) {
                (Filling::Alike(alike), Supply::Alike(template)) => {
                    alike.advance(schedule, now_ns, template, &mut self.outlet, context)
                }
                (Filling::Varied(varied), Supply::Varied(mixture)) => {
                    varied.advance(schedule, now_ns, mixture, &mut self.outlet, context)
                }
                _ => unreachable!("{MATCH}"),
            };
        }
        self.outlet.send(now_ns, context);
        if self.schedule.is_none() && !self.is_stopped && context.needs_no_answers() && self.outlet.is_wanting(context)
        {
            // No answer will tell that there is room: what was sent is gone.
            self.wake_ns = now_ns + 1;
        }
        self.taken() - before
    }

    fn taken(&self) -> u64 {
        match &self.filling {
            Filling::Alike(alike) => alike.taken,
            Filling::Varied(varied) => varied.taken,
        }
    }

    /// The kernel has news of the connection to leader `link`.
    pub(super) fn on_event(&mut self, link: usize, readable: bool, writable: bool, context: &mut Context) {
        self.outlet.on_event(link, readable, writable, context);
    }

    /// Counts the latency, so far, of what was never answered: it is no shorter than that.
    pub(super) fn give_up(&self, now_ns: u64, context: &mut Context) {
        self.outlet.give_up(now_ns, context);
    }
}

/// Both follow from the same workload.
const MATCH: &str = "a producer fills its batches as its thread's supply has records";

//! One consumer: a connection to every leader of its partitions, and its place in a group if it has one.

pub(super) mod group;
mod link;
mod membership;
mod position;
mod stream;
mod varint;

use std::error::Error;

use link::FetchLink;
pub(super) use membership::Membership;
use position::Position;
pub(super) use position::{Purpose, share};

use super::connection::Connection;
use super::context::Context;
use super::plan::Plan;
use crate::lab::number::size;
use corelane::protocol::messages::fetch::FetchRequest;

/// One consumer with its connections.
pub(super) struct Consumer {
    links: Vec<FetchLink>,
    membership: Option<Membership>,
    /// When `advance` is to be called, if nothing happens before.
    pub(super) wake_ns: u64,
}

impl Consumer {
    /// A consumer of some partitions, from the given ends on.
    pub(super) fn connect(
        plan: &Plan,
        purpose: Purpose,
        slots: &[u32],
        ends: &[i64],
        membership: Option<Membership>,
    ) -> Result<Consumer, Box<dyn Error>> {
        let version = plan.versions.of::<FetchRequest<'_>>()?;
        let mut links = Vec::new();
        for (address, leader) in plan.leaders.iter().zip(0..) {
            let own = slots.iter().filter(|slot| plan.slots[size(**slot)].leader == leader);
            let positions: Vec<Position> = own.map(|slot| Position::new(*slot, purpose, ends[size(*slot)])).collect();
            if !positions.is_empty() {
                links.push(FetchLink::connect(*address, version, purpose, positions)?);
            }
        }
        Ok(Consumer { links, membership, wake_ns: 0 })
    }

    /// Its connections, to be watched; that of its group comes last.
    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.links.iter().map(FetchLink::connection).chain(self.membership.as_ref().map(Membership::connection))
    }

    /// One of its connections.
    pub(super) fn connection(&self, index: usize) -> Option<&Connection> {
        match self.links.get(index) {
            Some(link) => Some(link.connection()),
            None => self.membership.as_ref().map(Membership::connection),
        }
    }

    /// Connections that are of no use any more.
    pub(super) fn broken_count(&self) -> usize {
        self.links.iter().filter(|link| link.is_broken()).count()
    }

    /// Does what it is time for.
    ///
    /// Errors: the group was rebalanced, after which the partitions are no longer this consumer's.
    pub(super) fn advance(&mut self, now_ns: u64, context: &mut Context) -> Result<(), String> {
        for link in &mut self.links {
            link.advance(now_ns, context);
        }
        if let Some(membership) = &mut self.membership {
            membership.advance(now_ns, self.links.iter().flat_map(FetchLink::positions), context)?;
        }
        let links = self.links.iter().map(|link| link.wake_ns);
        self.wake_ns = links.chain(self.membership.as_ref().map(|own| own.wake_ns)).min().unwrap_or(u64::MAX);
        Ok(())
    }

    /// The kernel has news of a connection.
    pub(super) fn on_event(
        &mut self,
        connection: usize,
        readable: bool,
        writable: bool,
        context: &mut Context,
    ) -> Result<(), String> {
        match (self.links.get_mut(connection), &mut self.membership) {
            (Some(link), _) => {
                link.on_event(readable, writable, context);
                Ok(())
            }
            (None, Some(membership)) => membership.on_event(readable, writable, context),
            (None, None) => Ok(()),
        }
    }
}

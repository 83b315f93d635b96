//! A producer's way out: its connections, and its id and sequences if it has any.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::error_code::ErrorCode;
use corelane::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelane::types::Sequence;

use super::link::Link;
use crate::client::{Client, answer_body, debug};
use crate::lab::generator::batch::{Batch, Origin};
use crate::lab::generator::connection::Connection;
use crate::lab::generator::context::Context;
use crate::lab::generator::plan::Plan;
use crate::lab::generator::topology::{LEADER_PATIENCE, LEADER_PAUSE, error_name};
use crate::lab::number::{signed, size};

/// Connections to all leaders.
pub(super) struct Outlet {
    links: Vec<Link>,
    identity: Option<Identity>,
    /// Records that were acknowledged or failed.
    pub(super) settled: u64,
}

/// Who an idempotent producer is.
struct Identity {
    producer_id: i64,
    epoch: i16,
    /// The next of each partition.
    sequences: Vec<Sequence>,
}

impl Outlet {
    /// Connects to every leader; a maximum begins with the partitions from `first` on.
    pub(super) fn connect(plan: &Plan, first: u32) -> Result<Outlet, Box<dyn Error>> {
        let leaders = plan.leaders.iter().zip(0..);
        let links: std::io::Result<Vec<Link>> =
            leaders.map(|(address, leader)| Link::connect(plan, *address, leader, first)).collect();
        let identity = if plan.workload.idempotence { Some(Identity::ask(plan)?) } else { None };
        Ok(Outlet { links: links?, identity, settled: 0 })
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.links.iter().map(Link::connection)
    }

    /// The connection to a leader.
    pub(super) fn connection(&self, link: usize) -> &Connection {
        self.links[link].connection()
    }

    /// Connections that are of no use any more.
    pub(super) fn broken_count(&self) -> usize {
        self.links.iter().filter(|link| link.is_broken()).count()
    }

    pub(super) fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Batches that wait for their connections.
    pub(super) fn ready_batches(&self) -> usize {
        self.links.iter().map(Link::ready_batches).sum()
    }

    /// Bytes of these batches.
    pub(super) fn ready_bytes(&self) -> usize {
        self.links.iter().map(|link| link.ready_bytes).sum()
    }

    /// Whether a batch for this partition could be sent at once.
    pub(super) fn is_free(&self, slot: u32, context: &Context) -> bool {
        self.links[leader(slot, context)].is_free(context)
    }

    /// Full batches that a connection would send at once.
    pub(super) fn batches_wanted(&self, link: usize, context: &Context) -> usize {
        self.links[link].batches_wanted(context)
    }

    /// Whether any connection would send more at once than it has.
    pub(super) fn is_wanting(&self, context: &Context) -> bool {
        self.links.iter().any(|link| link.batches_wanted(context) > 0)
    }

    /// The partition whose turn it is on a connection.
    pub(super) fn next_slot(&mut self, link: usize) -> u32 {
        self.links[link].next_slot()
    }

    /// Who sends the next `records` of a partition.
    pub(super) fn origin(&mut self, slot: u32, records: u32) -> Origin {
        let Some(identity) = &mut self.identity else { return Origin::NONE };
        let sequence = &mut identity.sequences[size(slot)];
        let base_sequence = sequence.value();
        *sequence = sequence.advance(signed(size(records)));
        Origin { producer_id: identity.producer_id, epoch: identity.epoch, base_sequence }
    }

    /// Has a batch sent after those before it.
    pub(super) fn push(&mut self, batch: Batch, context: &mut Context) {
        let link = &mut self.links[leader(batch.account.slot, context)];
        self.settled += link.push(batch, context);
    }

    /// Sends what can be sent.
    pub(super) fn send(&mut self, now_ns: u64, context: &mut Context) {
        for link in &mut self.links {
            self.settled += link.send(now_ns, context);
        }
    }

    /// The kernel has news of a connection.
    pub(super) fn on_event(&mut self, link: usize, readable: bool, writable: bool, context: &mut Context) {
        self.settled += self.links[link].on_event(readable, writable, context);
    }

    pub(super) fn give_up(&self, now_ns: u64, context: &mut Context) {
        for link in &self.links {
            link.give_up(now_ns, context);
        }
    }
}

fn leader(slot: u32, context: &Context) -> usize {
    size(context.plan.slots[size(slot)].leader)
}

impl Identity {
    /// Asks for a new one; any node gives it, as soon as it can.
    fn ask(plan: &Plan) -> Result<Identity, Box<dyn Error>> {
        let address = plan.leaders.first().ok_or("there is no leader")?;
        let began = Instant::now();
        loop {
            let response = Identity::ask_once(plan, *address)?;
            if response.error_code == 0 {
                let sequences = plan.slots.iter().map(|_| Sequence::new(0)).collect();
                return Ok(Identity { producer_id: response.producer_id, epoch: response.producer_epoch, sequences });
            }
            let is_early = [ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable]
                .iter()
                .any(|early| early.code() == response.error_code);
            if !is_early || began.elapsed() > LEADER_PATIENCE {
                return Err(format!("no producer id: {}", error_name(response.error_code)).into());
            }
            std::thread::sleep(LEADER_PAUSE);
        }
    }

    fn ask_once(plan: &Plan, address: SocketAddr) -> Result<InitProducerIdResponse, Box<dyn Error>> {
        let version = plan.versions.of::<InitProducerIdRequest<'_>>()?;
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let answer = Client::connect(address)?.ask(version, &request)?;
        let body = &mut answer_body(&answer, ApiKey::InitProducerId, version)?;
        Ok(InitProducerIdResponse::decode(body, version).map_err(debug)?)
    }
}

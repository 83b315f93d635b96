//! The thread that keeps `consume -G` a member of its group, by the protocol of KIP-848: the coordinator assigns, and one
//! request does everything. The classic protocol would have every member know how to assign.
//!
//! The thread sends heartbeats while the command prints, so that a slow reader of its output costs no membership. Each says
//! all there is to say, and each answer counts for itself, so that one that is lost costs nothing. Shared with the command
//! is only the newest state, under one lock that is never held while something is waited for.
//!
//! A *life* is the time from joining to leaving, or to being fenced: then the partitions belong to somebody else, the thread
//! joins anew, and whatever the command still says about the life before is ignored.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cli::client::{Address, Answer, Client, ClientError, Refusal, error_of};
use crate::limits::{CLIENT_HEARTBEAT_MS_MIN, CLIENT_REBALANCE_MS, CLIENT_RETRY_MS, CLIENT_RETRY_PAUSE_MS};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};

/// Epoch of a heartbeat that joins.
const JOIN: i32 = 0;
/// Epoch of a heartbeat that leaves.
const LEAVE: i32 = -1;

/// What a member wants to read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Subscription {
    pub(super) names: Vec<String>,
    /// One regular expression in RE2J's syntax.
    pub(super) pattern: Option<String>,
}

impl Subscription {
    /// From the command line: `^...` is a regular expression, everything else a name. One heartbeat carries one expression,
    /// so several become alternatives.
    pub(super) fn of(topics: &[String]) -> Subscription {
        let (patterns, names): (Vec<&String>, Vec<&String>) = topics.iter().partition(|topic| topic.starts_with('^'));
        let pattern = match patterns.as_slice() {
            [] => None,
            [one] => Some((*one).clone()),
            several => Some(several.iter().map(|pattern| format!("(?:{pattern})")).collect::<Vec<_>>().join("|")),
        };
        let mut names: Vec<String> = names.into_iter().cloned().collect();
        names.sort_unstable();
        names.dedup();
        Subscription { names, pattern }
    }
}

/// What the command must know.
#[derive(Debug)]
struct State {
    /// Counts lives, from 1 on.
    life: u64,
    epoch: i32,
    /// The newest assignment, until it is taken.
    assignment: Option<Vec<TopicPartitions>>,
    /// Why the thread has ended.
    failure: Option<ClientError>,
}

/// What the thread is told.
enum Order {
    /// The member reads these now, in that life.
    Owned(u64, Vec<TopicPartitions>),
    Leave,
}

/// A membership. Dropping it leaves the group.
#[derive(Debug)]
pub(super) struct Membership {
    /// Id of the member.
    pub(super) id: String,
    state: Arc<Mutex<State>>,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Membership {
    /// Joins. Whether that succeeds, and with which partitions, is told by [`Membership::news`].
    pub(super) fn join(
        bootstrap: &[Address],
        group: &str,
        subscription: Subscription,
    ) -> Result<Membership, super::ConsumeError> {
        let id = uuid::Uuid::new_v4().to_string();
        let state = Arc::new(Mutex::new(State { life: 1, epoch: JOIN, assignment: None, failure: None }));
        let (orders, receiver) = channel();
        let member = Member {
            client: Client::connect(bootstrap)?,
            coordinator: None,
            group: group.to_owned(),
            id: id.clone(),
            subscription,
            life: 1,
            epoch: JOIN,
            owned: Vec::new(),
            state: Arc::clone(&state),
        };
        let thread = thread::Builder::new().name("membership".to_owned()).spawn(move || member.run(&receiver))?;
        Ok(Membership { id, state, orders: Some(orders), thread: Some(thread) })
    }

    /// The life, and the assignment if there is a new one. An error if the membership is over for good.
    pub(super) fn news(&self) -> Result<(u64, Option<Vec<TopicPartitions>>), ClientError> {
        let mut state = lock(&self.state);
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok((state.life, state.assignment.take())),
        }
    }

    /// The epoch to commit with.
    pub(super) fn epoch(&self) -> i32 {
        lock(&self.state).epoch
    }

    /// Tells the coordinator what the member reads now: all of it.
    pub(super) fn report(&self, life: u64, owned: Vec<TopicPartitions>) {
        let orders = self.orders.as_ref().expect("only dropping takes it away");
        // A thread that has ended has left its reason for the next look at the news.
        let _ = orders.send(Order::Owned(life, owned));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Some(orders) = self.orders.take() {
            let _ = orders.send(Order::Leave);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics with the lock held")
}

struct Member {
    client: Client,
    /// Node id, while it is thought to be that.
    coordinator: Option<i32>,
    group: String,
    id: String,
    subscription: Subscription,
    life: u64,
    epoch: i32,
    owned: Vec<TopicPartitions>,
    state: Arc<Mutex<State>>,
}

impl Member {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut trouble_since = None;
        loop {
            let pause = match self.beat() {
                Ok(pause) => {
                    trouble_since = None;
                    pause
                }
                Err(error) => {
                    self.coordinator = None;
                    let since = *trouble_since.get_or_insert_with(Instant::now);
                    if !error.is_retriable() || since.elapsed() >= Duration::from_millis(CLIENT_RETRY_MS) {
                        lock(&self.state).failure = Some(error);
                        return;
                    }
                    Duration::from_millis(CLIENT_RETRY_PAUSE_MS)
                }
            };
            match orders.recv_timeout(pause) {
                Ok(Order::Owned(life, owned)) if life == self.life => self.owned = owned,
                Ok(Order::Owned(..)) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Leave) | Err(RecvTimeoutError::Disconnected) => {
                    // If it cannot be said, the session ends by itself.
                    if self.epoch > JOIN {
                        let _ = self.send(LEAVE);
                    }
                    return;
                }
            }
        }
    }

    /// Sends one heartbeat; returns how long to wait before the next.
    fn beat(&mut self) -> Result<Duration, ClientError> {
        let answer = self.send(self.epoch)?;
        let response: ConsumerGroupHeartbeatResponse<'_> = answer.decode()?;
        match error_of(response.error_code) {
            ErrorCode::None => {}
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                self.life += 1;
                self.epoch = JOIN;
                self.owned.clear();
                *lock(&self.state) = State { life: self.life, epoch: JOIN, assignment: None, failure: None };
                return Ok(Duration::from_millis(CLIENT_RETRY_PAUSE_MS));
            }
            error => {
                let hint = match error {
                    ErrorCode::GroupIdNotFound | ErrorCode::InconsistentGroupProtocol => {
                        Some("the group has members of the classic protocol, and this command speaks the newer one")
                    }
                    _ => response.error_message.as_deref(),
                };
                return Err(ClientError::refused(format!("group {}", self.group), response.error_code, hint));
            }
        }
        self.epoch = response.member_epoch;
        let mut state = lock(&self.state);
        state.epoch = self.epoch;
        if let Some(assignment) = response.assignment {
            state.assignment = Some(assignment.topic_partitions);
        }
        let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or_default();
        Ok(Duration::from_millis(interval.max(CLIENT_HEARTBEAT_MS_MIN)))
    }

    fn send(&mut self, epoch: i32) -> Result<Answer, ClientError> {
        let coordinator = match self.coordinator {
            Some(node) => node,
            None => *self.coordinator.insert(self.client.coordinator(&self.group)?),
        };
        let Subscription { names, pattern } = &self.subscription;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.as_str().into(),
            member_id: self.id.as_str().into(),
            member_epoch: epoch,
            rebalance_timeout_ms: CLIENT_REBALANCE_MS,
            subscribed_topic_names: Some(names.iter().map(|name| name.as_str().into()).collect()),
            subscribed_topic_regex: pattern.as_deref().map(Into::into),
            topic_partitions: Some(self.owned.clone()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.client.call_node(coordinator, &request).map_err(|error| match error {
            ClientError::Unsupported { address, .. } => ClientError::refused(
                format!("group {}", self.group),
                ErrorCode::UnsupportedVersion.code(),
                Some(&format!("{address} has no groups of the consumer protocol (KIP-848); Kafka has them since 4.0")),
            ),
            error => error,
        })
    }
}

/// Whether the member is none any more: somebody else has its partitions.
pub(super) fn is_over(error: &ClientError) -> bool {
    let ClientError::Refused { refusal: Refusal { error, .. }, .. } = error else { return false };
    matches!(error, ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch | ErrorCode::GroupIdNotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topics: &[&str]) -> (Vec<String>, Option<String>) {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let Subscription { names, pattern } = Subscription::of(&topics);
        (names, pattern)
    }

    #[test]
    fn names_and_patterns_are_told_apart_as_kcat_does() {
        assert_eq!(of(&["b", "a", "b"]), (vec!["a".to_owned(), "b".to_owned()], None));
        assert_eq!(of(&["^a.*"]), (vec![], Some("^a.*".to_owned())));
        assert_eq!(of(&["x", "^a.*", "^b|c"]), (vec!["x".to_owned()], Some("(?:^a.*)|(?:^b|c)".to_owned())));
    }
}

//! Brings batches to the leaders of their partitions and counts what became of the records.
//!
//! One request per leader and round, all of a round in flight together; of each partition one batch at a time, so order
//! holds without more ado. With acks=all the records are sent as an idempotent producer, so a batch that is sent again
//! because its answer was lost is appended once.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use super::batch::{Batch, OwnedHeader};
use crate::cli::client::{
    Answer, Client, ClientError, LATEST, READ_UNCOMMITTED, Refusal, Retry, Topic, error_of, is_retriable,
};
use crate::limits::CLIENT_REQUEST_MS;
use crate::protocol::compression::Codec;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use crate::protocol::wire::Records;
use crate::types::{ProducerEpoch, ProducerId, Sequence};

/// What counts as sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Acks {
    /// Handed to the network.
    None,
    /// Appended by the leader.
    Leader,
    /// As durable as the topic demands.
    All,
}

impl Acks {
    fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// How records are sent.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) acks: Acks,
    pub(super) codec: Codec,
    pub(super) headers: Vec<OwnedHeader>,
}

/// What became of the records so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Acknowledged, or with acks=0 handed to the network.
    pub(super) delivered: u64,
    /// Refused, or given up; with acks=0 also what may have been lost with a connection.
    pub(super) failed: u64,
    /// Why the first of them failed.
    pub(super) failure: Option<String>,
}

impl Tally {
    fn fail(&mut self, batch: &Batch, cause: impl FnOnce() -> String) {
        self.failed += count(batch);
        self.failure.get_or_insert_with(cause);
    }
}

/// Sends to one topic.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    topic: Topic,
    style: Style,
    /// Who an idempotent producer is.
    identity: Option<(ProducerId, ProducerEpoch)>,
    /// Sequence number of the next record of each partition that was sent to.
    sequences: BTreeMap<i32, Sequence>,
    /// With acks=0, records sent to each node on the connection it has now: lost, perhaps, if that breaks.
    unproven: BTreeMap<i32, u64>,
    tally: Tally,
}

/// Batches of each partition that are not settled yet, in their order. No queue is empty.
type Queues = BTreeMap<i32, VecDeque<Batch>>;

impl Sender {
    /// Gets ready to send; with acks=all it asks for a producer id.
    pub(super) fn new(client: Client, topic: Topic, style: Style) -> Result<Sender, ClientError> {
        let mut sender = Sender {
            client,
            topic,
            style,
            identity: None,
            sequences: BTreeMap::new(),
            unproven: BTreeMap::new(),
            tally: Tally::default(),
        };
        match sender.style.acks {
            Acks::None => sender.await_leaders()?,
            Acks::Leader => {}
            Acks::All => sender.renew_identity()?,
        }
        Ok(sender)
    }

    /// The count so far.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Sends batches, by partition, and waits until each is acknowledged or refused, which goes into the tally. An error
    /// says that patience ended; the records that were not acknowledged by then are counted as failed.
    pub(super) fn deliver(&mut self, batches: BTreeMap<i32, Batch>) -> Result<(), ClientError> {
        let mut queues: Queues =
            batches.into_iter().map(|(partition, batch)| (partition, VecDeque::from([batch]))).collect();
        let mut retry = Retry::new();
        while !queues.is_empty() {
            let Err(error) = self.round(&mut queues) else { continue };
            if error.is_retriable() && retry.pause() {
                self.refresh();
                continue;
            }
            for batch in queues.values().flatten() {
                self.tally.fail(batch, || error.to_string());
            }
            return Err(error);
        }
        Ok(())
    }

    /// Ends; with acks=0 after the brokers have read everything.
    pub(super) fn finish(self) -> Result<Tally, ClientError> {
        if self.style.acks == Acks::None {
            self.client.finish()?;
        }
        Ok(self.tally)
    }

    /// Sends the first batch of every partition and settles it if it can be settled. The error is the last that stood in
    /// the way of one.
    fn round(&mut self, queues: &mut Queues) -> Result<(), ClientError> {
        let mut outcome = Ok(());
        let mut by_leader: BTreeMap<i32, Vec<(i32, Vec<u8>)>> = BTreeMap::new();
        for (&partition, queue) in queues.iter() {
            let leader = self.leader(partition);
            if leader < 0 {
                outcome = Err(self.refused(partition, ErrorCode::LeaderNotAvailable.code(), None));
                continue;
            }
            by_leader.entry(leader).or_default().push((partition, self.encode(partition, &queue[0])));
        }
        let topic = self.topic.name.clone();
        let mut in_flight = Vec::new();
        for (leader, batches) in &by_leader {
            let request = request(&topic, self.style.acks, batches);
            match self.client.node(*leader).and_then(|node| node.send(&request)) {
                Ok(_) if self.style.acks == Acks::None => {
                    let records = batches.iter().map(|(partition, _)| self.settle(queues, *partition)).sum::<u64>();
                    *self.unproven.entry(*leader).or_default() += records;
                }
                Ok(sent) => in_flight.push((*leader, sent, batches)),
                Err(error) => {
                    self.client.disconnect(*leader);
                    self.doubt(*leader, &error);
                    outcome = Err(error);
                }
            }
        }
        for (leader, sent, batches) in in_flight {
            let answer = self.client.node(leader).and_then(|node| node.receive(sent));
            if let Err(error) = answer.and_then(|answer| self.apply(queues, batches, &answer)) {
                if !matches!(error, ClientError::Refused { .. }) {
                    self.client.disconnect(leader);
                }
                outcome = Err(error);
            }
        }
        if self.style.acks == Acks::All && self.identity.is_none() && !self.sequences.is_empty() {
            self.renew_identity()?;
        }
        outcome
    }

    fn encode(&self, partition: i32, batch: &Batch) -> Vec<u8> {
        let sequence = self.sequences.get(&partition).copied().unwrap_or_default();
        let producer = self.identity.map(|(id, epoch)| (id, epoch, sequence));
        batch.encode(self.style.codec, &self.style.headers, producer)
    }

    /// Settles what an answer settles of the batches it is about. The error is the last that another try may overcome.
    fn apply(&mut self, queues: &mut Queues, sent: &[(i32, Vec<u8>)], answer: &Answer) -> Result<(), ClientError> {
        let response: ProduceResponse<'_> = answer.decode()?;
        let results: Vec<_> = response.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
        let mut outcome = Ok(());
        for &(partition, _) in sent {
            let Some(result) = results.iter().find(|result| result.index == partition) else {
                let left_out = "the broker's answer leaves it out";
                outcome = Err(self.refused(partition, ErrorCode::NetworkException.code(), Some(left_out)));
                continue;
            };
            let batch = queues.get_mut(&partition).and_then(VecDeque::pop_front).expect("a batch in flight is queued");
            let error = error_of(result.error_code);
            let message = result.error_message.as_deref();
            match error {
                // A duplicate was appended by an earlier try whose answer was lost.
                ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                    push_front(queues, partition, batch);
                    self.settle(queues, partition);
                    continue;
                }
                ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge if batch.record_count() > 1 => {
                    let (first, second) = batch.split();
                    push_front(queues, partition, second);
                    push_front(queues, partition, first);
                }
                error if is_retriable(error) => {
                    outcome = Err(self.refused(partition, result.error_code, message));
                    push_front(queues, partition, batch);
                }
                error => {
                    if loses_identity(error) {
                        self.identity = None;
                    }
                    let refusal = Refusal::new(result.error_code, message);
                    let said =
                        result.record_errors.first().and_then(|error| error.batch_index_error_message.as_deref());
                    self.tally.fail(&batch, || said.map_or(refusal.to_string(), |said| format!("{refusal}: {said}")));
                }
            }
            queues.retain(|_, queue| !queue.is_empty());
        }
        outcome
    }

    /// Counts the first batch of a partition as delivered; returns its records.
    fn settle(&mut self, queues: &mut Queues, partition: i32) -> u64 {
        let queue = queues.get_mut(&partition).expect("a batch in flight is queued");
        let batch = queue.pop_front().expect("no queue is empty");
        if queue.is_empty() {
            queues.remove(&partition);
        }
        self.tally.delivered += count(&batch);
        let records = i32::try_from(batch.record_count()).expect("a batch's records are counted in 32 bits");
        let sequence = self.sequences.entry(partition).or_default();
        *sequence = sequence.advance(records);
        count(&batch)
    }

    /// A connection broke: with acks=0 nobody knows what the node had read of it.
    fn doubt(&mut self, node: i32, error: &ClientError) {
        let records = self.unproven.remove(&node).unwrap_or_default();
        self.tally.delivered -= records;
        self.tally.failed += records;
        if records > 0 {
            self.tally.failure.get_or_insert_with(|| error.to_string());
        }
    }

    /// Waits until the leaders serve their partitions, which takes a moment after a topic was created. With acks=0 no
    /// answer would tell that they do not.
    fn await_leaders(&mut self) -> Result<(), ClientError> {
        let indexes: Vec<i32> = self.topic.partitions.iter().map(|partition| partition.index).collect();
        Retry::new().run(|| {
            let found = self.client.offsets(&self.topic, &indexes, LATEST, READ_UNCOMMITTED)?;
            match found.into_iter().find_map(|(index, offset)| Some((index, offset.err()?))) {
                Some((index, error)) => {
                    self.refresh();
                    Err(self.refused(index, error.code(), None))
                }
                None => Ok(()),
            }
        })
    }

    fn leader(&self, partition: i32) -> i32 {
        let found = self.topic.partitions.iter().find(|candidate| candidate.index == partition);
        found.map_or(-1, |found| found.leader)
    }

    fn refused(&self, partition: i32, code: i16, message: Option<&str>) -> ClientError {
        ClientError::refused(format!("topic {} partition {partition}", self.topic.name), code, message)
    }

    /// Learns the leaders anew. If that fails, the next round tells.
    fn refresh(&mut self) {
        let names = [self.topic.name.clone()];
        if let Ok(Some(Ok(topic))) = self.client.metadata(Some(&names), false).map(|topics| topics.into_iter().next()) {
            self.topic = topic;
        }
    }

    /// Asks for a producer id; every sequence begins anew. A broker that gives none, or not to us, gets plain batches.
    fn renew_identity(&mut self) -> Result<(), ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: CLIENT_REQUEST_MS,
            ..InitProducerIdRequest::default()
        };
        let client = &mut self.client;
        let outcome = Retry::new().run(|| {
            let answer = client.call_any(&request)?;
            let response: InitProducerIdResponse = answer.decode()?;
            match error_of(response.error_code) {
                ErrorCode::None => {
                    Ok((ProducerId::new(response.producer_id), ProducerEpoch::new(response.producer_epoch)))
                }
                _ => Err(ClientError::refused("a producer id", response.error_code, None)),
            }
        });
        self.sequences.clear();
        self.identity = match outcome {
            Ok(identity) => Some(identity),
            Err(ClientError::Unsupported { .. }) => None,
            Err(ClientError::Refused { refusal, .. }) if refusal.error == ErrorCode::ClusterAuthorizationFailed => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

fn request<'a>(topic: &'a str, acks: Acks, batches: &'a [(i32, Vec<u8>)]) -> ProduceRequest<'a> {
    let partitions = batches
        .iter()
        .map(|(partition, bytes)| PartitionProduceData { index: *partition, records: Records::Bytes(bytes) });
    let topic = TopicProduceData {
        name: Cow::Borrowed(topic),
        partition_data: partitions.collect(),
        ..TopicProduceData::default()
    };
    ProduceRequest { transactional_id: None, acks: acks.code(), timeout_ms: CLIENT_REQUEST_MS, topic_data: vec![topic] }
}

fn push_front(queues: &mut Queues, partition: i32, batch: Batch) {
    queues.entry(partition).or_default().push_front(batch);
}

/// Whether the broker no longer takes sequences of this producer id.
fn loses_identity(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerIdMapping
    )
}

fn count(batch: &Batch) -> u64 {
    u64::try_from(batch.record_count()).expect("64 bits")
}

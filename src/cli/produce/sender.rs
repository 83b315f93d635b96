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
    /// The broker no longer takes its sequences.
    is_identity_lost: bool,
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
            is_identity_lost: false,
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

    /// Ends; with acks=0 after the nodes have read everything. Returns the final count.
    pub(super) fn finish(mut self) -> Tally {
        if self.style.acks == Acks::None {
            for (node, error) in self.client.finish() {
                self.doubt(node, &error);
            }
        }
        self.tally
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
            let is_answered = self.style.acks != Acks::None;
            let sent = self.client.node(*leader).and_then(|node| match is_answered {
                true => node.send(&request).map(Some),
                false => node.send_unanswered(&request).map(|()| None),
            });
            match sent {
                Ok(None) => {
                    let records = batches.iter().map(|(partition, _)| self.settle(queues, *partition)).sum::<u64>();
                    *self.unproven.entry(*leader).or_default() += records;
                }
                Ok(Some(sent)) => in_flight.push((*leader, sent, batches)),
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
        if self.is_identity_lost {
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
                    self.is_identity_lost |= loses_identity(error);
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
        self.is_identity_lost = false;
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::cli::client::scripted::{self, Asked, Reply};
    use crate::protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
    use crate::protocol::record_batch::BatchView;
    use crate::types::TimestampMs;

    /// First sequence and number of records of every batch that the node saw, in order, with its partition.
    type Seen = Arc<Mutex<Vec<(i32, i32, i32)>>>;

    /// Sends one batch of five records to each of these partitions; `judge` gives the code of the n-th batch that comes,
    /// none to hang up instead.
    fn deliver(
        acks: Acks,
        partitions: &[i32],
        mut judge: impl FnMut(usize, i32) -> Option<ErrorCode> + Send + 'static,
    ) -> (Tally, Vec<(i32, i32, i32)>) {
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        let address = scripted::node(3, move |asked: &Asked| {
            let request: ProduceRequest<'_> = asked.decode();
            let mut results = Vec::new();
            for data in &request.topic_data[0].partition_data {
                let Records::Bytes(bytes) = data.records else { panic!("no records") };
                let header = BatchView::parse(bytes).unwrap().header;
                let mut log = log.lock().unwrap();
                let Some(error) = judge(log.len(), header.record_count) else {
                    log.push((data.index, header.base_sequence.value(), header.record_count));
                    return Reply::HangUp;
                };
                log.push((data.index, header.base_sequence.value(), header.record_count));
                results.push(PartitionProduceResponse {
                    index: data.index,
                    error_code: error.code(),
                    ..PartitionProduceResponse::default()
                });
            }
            if request.acks == 0 {
                return Reply::Send(Vec::new());
            }
            let topic = TopicProduceResponse {
                name: "t".into(),
                partition_responses: results,
                ..TopicProduceResponse::default()
            };
            asked.answer(&ProduceResponse { responses: vec![topic], ..ProduceResponse::default() })
        });
        let mut client = Client::connect(&[address]).unwrap();
        let topic = client.metadata(None, false).unwrap().remove(0).unwrap();
        let style = Style { acks, codec: Codec::None, headers: Vec::new() };
        let mut sender = Sender::new(client, topic, style).unwrap();
        let mut batch = Batch::default();
        (0..5).for_each(|_| batch.append(None, Some(b"v"), TimestampMs::new(1)));
        let batches = partitions.iter().map(|&partition| (partition, batch.clone())).collect();
        sender.deliver(batches).unwrap();
        sender.deliver(BTreeMap::from([(0, batch)])).unwrap();
        let seen = seen.lock().unwrap().clone();
        (sender.finish(), seen)
    }

    #[test]
    fn sequences_go_on_from_batch_to_batch() {
        let (tally, seen) = deliver(Acks::All, &[0, 2], |_, _| Some(ErrorCode::None));
        assert_eq!((tally.delivered, tally.failed), (15, 0));
        assert_eq!(seen, [(0, 0, 5), (2, 0, 5), (0, 5, 5)]);
    }

    #[test]
    fn a_batch_whose_answer_was_lost_is_sent_again_with_its_sequence() {
        let (tally, seen) = deliver(Acks::All, &[0], |batch, _| match batch {
            0 => None,
            1 => Some(ErrorCode::NotLeaderOrFollower),
            2 => Some(ErrorCode::DuplicateSequenceNumber),
            _ => Some(ErrorCode::None),
        });
        assert_eq!((tally.delivered, tally.failed), (10, 0));
        assert_eq!(seen, [(0, 0, 5), (0, 0, 5), (0, 0, 5), (0, 5, 5)]);
    }

    #[test]
    fn a_batch_that_is_too_large_is_sent_in_halves_in_order_and_a_record_that_is_fails_alone() {
        let (tally, seen) = deliver(Acks::All, &[0], |_, record_count| {
            Some(if record_count > 2 { ErrorCode::MessageTooLarge } else { ErrorCode::None })
        });
        assert_eq!((tally.delivered, tally.failed), (10, 0));
        let halves = [(0, 0, 5), (0, 0, 2), (0, 2, 3), (0, 2, 1), (0, 3, 2)];
        assert_eq!(seen[..5], halves);
        let (tally, _) = deliver(Acks::All, &[0], |_, _| Some(ErrorCode::MessageTooLarge));
        assert_eq!((tally.delivered, tally.failed), (0, 10));
        assert!(tally.failure.unwrap().contains("MESSAGE_TOO_LARGE"));
    }

    #[test]
    fn a_refused_batch_leaves_its_sequence_to_the_next() {
        let (tally, seen) = deliver(Acks::All, &[0], |batch, _| {
            Some(if batch == 0 { ErrorCode::InvalidTimestamp } else { ErrorCode::None })
        });
        assert_eq!((tally.delivered, tally.failed), (5, 5));
        assert_eq!(seen, [(0, 0, 5), (0, 0, 5)]);
    }

    #[test]
    fn a_lost_producer_id_is_replaced_and_sequences_begin_anew() {
        let (tally, seen) = deliver(Acks::All, &[0, 1], |batch, _| {
            Some(if batch == 1 { ErrorCode::UnknownProducerId } else { ErrorCode::None })
        });
        assert_eq!((tally.delivered, tally.failed), (10, 5));
        assert_eq!(seen, [(0, 0, 5), (1, 0, 5), (0, 0, 5)]);
    }

    #[test]
    fn plain_batches_carry_no_sequence() {
        let (tally, seen) = deliver(Acks::Leader, &[1], |_, _| Some(ErrorCode::None));
        assert_eq!((tally.delivered, tally.failed), (10, 0));
        assert_eq!(seen, [(1, -1, 5), (0, -1, 5)]);
    }
}

//! librdkafka, unmodified, against a `corelane` process: records come back as they were sent, whatever the codec, the
//! acks, the number of shards and the way they are advertised.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use common::Random;
use common::broker::{Broker, Settings};
use common::client::{self, PATIENCE};

/// The offset that each record was acknowledged at, by its number, or its error.
type Acknowledged = Arc<Mutex<HashMap<usize, Result<(i32, i64), KafkaError>>>>;

struct Deliveries(Acknowledged);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let outcome = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        let earlier = self.0.lock().unwrap().insert(*number, outcome);
        assert!(earlier.is_none(), "record {number} was reported twice");
    }
}

/// Record `number` of a test: everything about it follows from its number.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Sample {
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    timestamp_ms: i64,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sample {
    fn new(number: usize) -> Sample {
        let mut random = Random::new(u64::try_from(number).unwrap());
        let mut bytes = |length_max: u64| -> Vec<u8> {
            // Half of it repeats, so that codecs have something to do.
            let length = random.below(length_max);
            (0..length).map(|at| if at % 2 == 0 { b'a' } else { random.next().to_le_bytes()[0] }).collect()
        };
        Sample {
            key: (!number.is_multiple_of(5)).then(|| bytes(40)),
            payload: (!number.is_multiple_of(17)).then(|| bytes(2000)),
            timestamp_ms: 1_700_000_000_000 + i64::try_from(number).unwrap(),
            headers: (0..number % 3).map(|at| (format!("header-{at}"), (at != 1).then(|| bytes(20)))).collect(),
        }
    }

    fn of(message: &BorrowedMessage<'_>) -> Sample {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Sample {
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            timestamp_ms: message.timestamp().to_millis().unwrap(),
            headers,
        }
    }

    fn record<'a>(&'a self, topic: &'a str, partition: i32, number: usize) -> BaseRecord<'a, [u8], [u8], Box<usize>> {
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(number)).partition(partition);
        record.key = self.key.as_deref();
        record.payload = self.payload.as_deref();
        record.timestamp = Some(self.timestamp_ms);
        let headers = self
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        record.headers(headers)
    }
}

/// Sends records `0..count` round robin over `partitions` and waits until librdkafka has reported each.
fn produce(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    count: usize,
    properties: &[(&str, &str)],
) -> HashMap<usize, Result<(i32, i64), KafkaError>> {
    let acknowledged = Acknowledged::default();
    let producer: ThreadedProducer<Deliveries> =
        client::config(bootstrap, properties).create_with_context(Deliveries(acknowledged.clone())).unwrap();
    for (number, partition) in (0..count).zip((0..partitions).cycle()) {
        let sample = Sample::new(number);
        let mut record = sample.record(topic, partition, number);
        while let Err((error, unsent)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "record {number}");
            record = unsent;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    producer.flush(PATIENCE).unwrap();
    drop(producer);
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    assert_eq!(acknowledged.len(), count, "records reported");
    acknowledged
}

/// Produces and reads back: every record acknowledged, at the offset where it is found, in order, once, byte for byte.
fn round_trip(bootstrap: &str, topic: &str, partitions: i32, count: usize, properties: &[(&str, &str)]) {
    let acknowledged = produce(bootstrap, topic, partitions, count, properties);
    // What acks=0 reports is that it was sent: the broker may still be at it.
    let acks_none = properties.contains(&("acks", "0"));
    if acks_none {
        await_records(bootstrap, topic, partitions, count);
    }
    let mut read = HashMap::new();
    client::read_topic(bootstrap, topic, partitions, |message| {
        read.insert((message.partition(), message.offset()), Sample::of(message));
    });
    assert_eq!(read.len(), count, "records read from {topic}");
    for (number, partition) in (0..count).zip((0..partitions).cycle()) {
        let offset = i64::try_from(number).unwrap() / i64::from(partitions);
        if !acks_none {
            assert_eq!(acknowledged[&number], Ok((partition, offset)), "record {number} of {topic}");
        }
        assert_eq!(read[&(partition, offset)], Sample::new(number), "record {number} of {topic}");
    }
}

fn await_records(bootstrap: &str, topic: &str, partitions: i32, count: usize) {
    let wanted = i64::try_from(count).unwrap();
    let started = Instant::now();
    loop {
        let stored: i64 = client::ends(bootstrap, topic, partitions).iter().sum();
        if stored == wanted {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{stored} of {wanted} records sent without acks are stored");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_codec_round_trips() {
    let broker = Broker::start(&Settings::default());
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        client::create_topic(&broker.bootstrap(), &topic, 2, &[]);
        round_trip(&broker.bootstrap(), &topic, 2, 2000, &[("compression.type", codec), ("linger.ms", "10")]);
    }
}

#[test]
fn every_acks_level_round_trips() {
    let broker = Broker::start(&Settings::default());
    for acks in ["0", "1", "all"] {
        for (kind, flush_messages) in [("flushed", "1"), ("written", "9223372036854775807")] {
            let topic = format!("acks-{acks}-{kind}");
            client::create_topic(&broker.bootstrap(), &topic, 2, &[("flush.messages", flush_messages)]);
            // Librdkafka keeps the order without idempotence only with one request in flight.
            let properties = [("acks", acks), ("linger.ms", "5"), ("max.in.flight", "1")];
            round_trip(&broker.bootstrap(), &topic, 2, 1000, &properties);
        }
    }
}

#[test]
fn idempotent_producer_is_in_order_with_many_requests_in_flight() {
    let broker = Broker::start(&Settings::default());
    client::create_topic(&broker.bootstrap(), "idempotent", 3, &[]);
    let properties = [("enable.idempotence", "true"), ("linger.ms", "0"), ("batch.num.messages", "7")];
    round_trip(&broker.bootstrap(), "idempotent", 3, 6000, &properties);
}

/// A transactional producer was answered UNSUPPORTED_VERSION, which librdkafka retries for ever: its user saw a time-out, or
/// nothing.
#[test]
fn transactional_producer_is_refused_for_good() {
    let broker = Broker::start(&Settings::default());
    if !broker.is_corelane() {
        return;
    }
    let producer: BaseProducer = client::config(&broker.bootstrap(), &[("transactional.id", "t")]).create().unwrap();
    let Err(KafkaError::Transaction(error)) = producer.init_transactions(PATIENCE) else {
        panic!("there are no transactions yet");
    };
    assert_eq!(error.code(), RDKafkaErrorCode::TransactionalIdAuthorizationFailed, "{error}");
    assert!(error.is_fatal(), "{error}");
}

#[test]
fn unknown_topic_is_created_by_its_first_record() {
    let broker = Broker::start(&Settings::default());
    round_trip(&broker.bootstrap(), "made-by-metadata", 1, 10, &[]);
}

#[test]
fn record_above_max_message_bytes_is_refused_and_the_next_accepted() {
    let broker = Broker::start(&Settings::default());
    client::create_topic(&broker.bootstrap(), "small", 1, &[("max.message.bytes", "10000")]);
    let acknowledged = Acknowledged::default();
    let producer: BaseProducer<Deliveries> =
        client::config(&broker.bootstrap(), &[]).create_with_context(Deliveries(acknowledged.clone())).unwrap();
    for (number, length) in [(0, 20_000), (1, 5_000)] {
        let payload = vec![b'x'; length];
        let record = BaseRecord::<'_, [u8], _, _>::with_opaque_to("small", Box::new(number)).payload(&payload);
        producer.send(record.partition(0)).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap();
    assert_eq!(acknowledged[&0], Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)));
    assert_eq!(acknowledged[&1], Ok((0, 0)));
}

#[test]
fn two_shards_are_two_nodes_and_round_trip() {
    let broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    let nodes = client::nodes(&broker.bootstrap());
    if broker.is_corelane() {
        assert_eq!(nodes.len(), 2, "{nodes:?}");
        assert_ne!(nodes[0].1, nodes[1].1, "a port of its own for each node");
    }
    client::create_topic(&broker.bootstrap(), "wide", 8, &[]);
    // Any node will do to begin with.
    for (_, address) in nodes {
        let topic = format!("wide-{}", address.replace(':', "-"));
        client::create_topic(&address, &topic, 8, &[]);
        round_trip(&address, &topic, 8, 4000, &[("compression.type", "lz4")]);
        round_trip_again_reads_the_same(&broker.bootstrap(), &topic, 8, 4000);
    }
    if broker.is_corelane() {
        assert_eq!(broker.metric("corelane_crossings_total"), 0, "a stock client goes to the owning core");
    }
}

#[test]
fn two_shards_behind_a_single_node_round_trip() {
    let broker = Broker::start(&Settings { shards: 2, advertise: Some("single"), ..Settings::default() });
    let nodes = client::nodes(&broker.bootstrap());
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    client::create_topic(&broker.bootstrap(), "wide", 8, &[]);
    round_trip(&broker.bootstrap(), "wide", 8, 4000, &[("enable.idempotence", "true"), ("compression.type", "zstd")]);
    if broker.is_corelane() {
        assert_ne!(broker.metric("corelane_crossings_total"), 0, "the other shard's partitions are served across");
    }
}

#[test]
fn records_survive_a_clean_stop_and_a_kill() {
    let mut broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    client::create_topic(&broker.bootstrap(), "kept", 4, &[]);
    round_trip(&broker.bootstrap(), "kept", 4, 2000, &[("enable.idempotence", "true")]);
    let status = broker.stop();
    if broker.is_corelane() {
        assert!(status.success(), "{status} after SIGTERM");
    }
    broker.start_again();
    round_trip_again_reads_the_same(&broker.bootstrap(), "kept", 4, 2000);
    broker.kill();
    broker.start_again();
    round_trip_again_reads_the_same(&broker.bootstrap(), "kept", 4, 2000);
}

/// Reads what `round_trip` has produced once more.
fn round_trip_again_reads_the_same(bootstrap: &str, topic: &str, partitions: i32, count: usize) {
    let mut read = 0;
    client::read_topic(bootstrap, topic, partitions, |message| {
        let number = message.offset() * i64::from(partitions) + i64::from(message.partition());
        assert_eq!(Sample::of(message), Sample::new(usize::try_from(number).unwrap()), "record {number} of {topic}");
        read += 1;
    });
    assert_eq!(read, count, "records read from {topic}");
}

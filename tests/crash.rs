//! The crash test: producers at full load, `kill -9` at a random moment, the process opened again, and every
//! acknowledged record is there, once, in order, at the offset it was acknowledged at, with offsets dense.
//!
//! The producers live through the crashes: what they send again afterwards meets the producer state that the broker
//! recovered, so a batch that was stored but not acknowledged is recognised and not stored twice.
//! `kill -9` leaves the operating system's promises untouched: that flushes happen is for the simulation to prove.
//!
//! `CORELANE_CRASH_ROUNDS` (3) is how often it is killed, `CORELANE_CRASH_SEED` repeats the moments of a run.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use common::Random;
use common::broker::{Broker, Settings};
use common::client;

const PARTITIONS: i32 = 4;
const PARTITION_COUNT: usize = 4;
/// Records that one producer has on the way; it bounds what a crash leaves unanswered.
const QUEUED_MESSAGES_MAX: &str = "2000";
const PADDING_BYTES_MAX: u64 = 600;
/// Everything must be delivered by then, after the last restart.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(90);

/// What a producer is told to do.
#[derive(Clone, Copy, Debug)]
struct Load {
    topic: &'static str,
    acks: &'static str,
    idempotent: bool,
}

const LOADS: [Load; 6] = [
    Load { topic: "flushed", acks: "all", idempotent: true },
    Load { topic: "flushed", acks: "all", idempotent: true },
    Load { topic: "flushed", acks: "all", idempotent: true },
    Load { topic: "flushed", acks: "1", idempotent: false },
    Load { topic: "written", acks: "all", idempotent: true },
    Load { topic: "written", acks: "1", idempotent: false },
];

const TOPICS: [(&str, &str); 2] = [("flushed", "1"), ("written", "9223372036854775807")];

/// The records of one producer to one partition are numbered from 0: number → offset of those acknowledged.
type Acknowledged = BTreeMap<u64, i64>;

/// One producer's acknowledgements by partition, and the first delivery that failed.
#[derive(Default)]
struct Outcome {
    acknowledged: [Acknowledged; PARTITION_COUNT],
    failure: Option<String>,
}

struct Deliveries(Arc<Mutex<Outcome>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        let mut outcome = self.0.lock().unwrap();
        match result {
            Ok(message) => {
                let partition = usize::try_from(message.partition()).unwrap();
                let earlier = outcome.acknowledged[partition].insert(*number, message.offset());
                assert_eq!(earlier, None, "record {number} acknowledged once");
            }
            Err((error, _)) => {
                outcome.failure.get_or_insert_with(|| format!("record {number}: {error}"));
            }
        }
    }
}

/// What the producers share with the test.
#[derive(Default)]
struct Control {
    /// No new records: those on the way are still sent, and sent again.
    paused: AtomicBool,
    /// The end: what is on the way is delivered first.
    stopped: AtomicBool,
    sent_records: AtomicU64,
}

/// Sends numbered records to all partitions in turn until stopped, then waits until all are delivered.
/// Returns how many it sent to each partition.
fn keep_producing(
    producer_index: u64,
    load: Load,
    bootstrap: &str,
    outcome: Arc<Mutex<Outcome>>,
    control: &Control,
) -> Vec<u64> {
    let idempotent = if load.idempotent { "true" } else { "false" };
    let producer: BaseProducer<Deliveries> = client::config(
        bootstrap,
        &[
            ("acks", load.acks),
            ("enable.idempotence", idempotent),
            ("queue.buffering.max.messages", QUEUED_MESSAGES_MAX),
            ("linger.ms", "1"),
            ("message.timeout.ms", "120000"),
            ("reconnect.backoff.ms", "20"),
            ("reconnect.backoff.max.ms", "200"),
        ],
    )
    .create_with_context(Deliveries(outcome))
    .unwrap();
    let mut sent = vec![0_u64; PARTITION_COUNT];
    'load: loop {
        for partition in 0..PARTITIONS {
            while control.paused.load(Ordering::Relaxed) && !control.stopped.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(5));
            }
            if control.stopped.load(Ordering::Relaxed) {
                break 'load;
            }
            let number = sent[usize::try_from(partition).unwrap()];
            let payload = payload(producer_index, number);
            let mut record = BaseRecord::<'_, [u8], _, _>::with_opaque_to(load.topic, Box::new(number))
                .partition(partition)
                .payload(&payload);
            while let Err((error, unsent)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{load:?}: {error}");
                record = unsent;
                producer.poll(Duration::from_millis(5));
            }
            sent[usize::try_from(partition).unwrap()] += 1;
            control.sent_records.fetch_add(1, Ordering::Relaxed);
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(FLUSH_TIMEOUT).unwrap_or_else(|error| panic!("{load:?}: {error}"));
    sent
}

/// Producer and number, then bytes that follow from them.
fn payload(producer_index: u64, number: u64) -> Vec<u8> {
    let mut random = Random::new(producer_index << 48 | number);
    let padding = usize::try_from(random.below(PADDING_BYTES_MAX)).unwrap();
    let mut payload = Vec::from(producer_index.to_be_bytes());
    payload.extend(number.to_be_bytes());
    let fill = random.next().to_be_bytes();
    payload.extend(fill.iter().cycle().take(padding));
    payload
}

/// Reads all that is stored and holds it against what was acknowledged before the reading began.
///
/// Idempotent producers: their numbers follow each other without gap or repetition in every partition. The others may
/// have repeated what they got no answer for. Both: each acknowledged record lies at its offset. (That offsets are
/// dense is asserted by `read_topic`.) Returns the records of each producer in each partition.
fn verify(
    bootstrap: &str,
    acknowledged: &[[Acknowledged; PARTITION_COUNT]],
    when: &str,
) -> Vec<[u64; PARTITION_COUNT]> {
    let mut next = vec![[0_u64; PARTITION_COUNT]; LOADS.len()];
    let mut confirmed = vec![[0_usize; PARTITION_COUNT]; LOADS.len()];
    for (topic, _) in TOPICS {
        client::read_topic(bootstrap, topic, PARTITIONS, |message| {
            let place = format!("{topic}-{} offset {}", message.partition(), message.offset());
            let partition = usize::try_from(message.partition()).unwrap();
            let stored = message.payload().expect("every record has a payload");
            let (head, _) = stored.split_at_checked(16).unwrap_or_else(|| panic!("{when}: {place} is cut"));
            let producer_index = u64::from_be_bytes(head[..8].try_into().unwrap());
            let number = u64::from_be_bytes(head[8..].try_into().unwrap());
            let producer = usize::try_from(producer_index).unwrap();
            let load = LOADS[producer];
            assert!(stored == payload(producer_index, number), "{when}: {place} is not what was sent");
            assert_eq!(load.topic, topic, "{when}: {place} is of producer {producer}");
            if load.idempotent {
                let wanted = next[producer][partition];
                assert_eq!(number, wanted, "{when}: {place} of {load:?}: each record once, in order");
            }
            next[producer][partition] += 1;
            if acknowledged[producer][partition].get(&number) == Some(&message.offset()) {
                confirmed[producer][partition] += 1;
            }
        });
    }
    for (producer, load) in LOADS.iter().enumerate() {
        for partition in 0..PARTITION_COUNT {
            let wanted = acknowledged[producer][partition].len();
            let found = confirmed[producer][partition];
            assert_eq!(
                found, wanted,
                "{when}: acknowledged records of producer {producer}, {load:?}, at their offsets in partition {partition}"
            );
        }
    }
    next
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

#[test]
fn acknowledged_records_survive_kill_nine_under_load() {
    let rounds = setting("CORELANE_CRASH_ROUNDS").unwrap_or(3);
    let seed = setting("CORELANE_CRASH_SEED").unwrap_or_else(Random::fresh_seed);
    eprintln!("CORELANE_CRASH_SEED={seed} CORELANE_CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);

    let mut broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    let bootstrap = broker.bootstrap();
    for (topic, flush_messages) in TOPICS {
        client::create_topic(&bootstrap, topic, PARTITIONS, &[("flush.messages", flush_messages)]);
    }

    let outcomes: Vec<Arc<Mutex<Outcome>>> = LOADS.iter().map(|_| Arc::default()).collect();
    let acknowledged = || -> Vec<[Acknowledged; PARTITION_COUNT]> {
        outcomes.iter().map(|outcome| outcome.lock().unwrap().acknowledged.clone()).collect()
    };
    let count = |acknowledged: &[[Acknowledged; PARTITION_COUNT]]| -> usize {
        acknowledged.iter().flatten().map(BTreeMap::len).sum()
    };
    let control = Control::default();

    let sent: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let producers: Vec<_> = (0_u64..)
            .zip(LOADS)
            .zip(&outcomes)
            .map(|((index, load), outcome)| {
                let (bootstrap, outcome, control) = (&bootstrap, outcome.clone(), &control);
                scope.spawn(move || keep_producing(index, load, bootstrap, outcome, control))
            })
            .collect();
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=rounds {
                let before = count(&acknowledged());
                // Load first: a crash of an idle broker proves nothing.
                let waiting = std::time::Instant::now();
                while count(&acknowledged()) < before + 1000 {
                    assert!(waiting.elapsed() < client::PATIENCE, "round {round}: producers get no acknowledgements");
                    std::thread::sleep(Duration::from_millis(10));
                }
                std::thread::sleep(Duration::from_millis(random.below(1500)));
                broker.kill();
                // What was on the way is sent again to the next process, while its log is read and stays bounded.
                control.paused.store(true, Ordering::Relaxed);
                let at_crash = acknowledged();
                broker.start_again();
                eprintln!(
                    "round {round}: killed with {} of {} records acknowledged; {}",
                    count(&at_crash),
                    control.sent_records.load(Ordering::Relaxed),
                    broker.ready_line()
                );
                verify(&bootstrap, &at_crash, &format!("seed {seed}, round {round}"));
                control.paused.store(false, Ordering::Relaxed);
            }
        }));
        // Also after a failure, so that the producers end and the scope with them.
        control.stopped.store(true, Ordering::Relaxed);
        let sent = producers.into_iter().map(|producer| producer.join());
        if let Err(failure) = rounds {
            std::panic::resume_unwind(failure);
        }
        sent.map(|sent| sent.unwrap()).collect()
    });

    for (outcome, load) in outcomes.iter().zip(LOADS) {
        assert_eq!(outcome.lock().unwrap().failure, None, "seed {seed}: failed delivery, {load:?}");
    }
    let acknowledged = acknowledged();
    for when in ["after the last round", "after a clean stop"] {
        let stored = verify(&bootstrap, &acknowledged, &format!("seed {seed}, {when}"));
        for (producer, load) in LOADS.iter().enumerate().filter(|(_, load)| load.idempotent) {
            assert_eq!(stored[producer][..], sent[producer][..], "seed {seed}, {when}: records of {load:?}");
        }
        broker.stop();
        broker.start_again();
    }
    eprintln!("{} records acknowledged over {rounds} crashes, all there", count(&acknowledged));
}

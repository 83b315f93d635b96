//! librdkafka as the tests use it: topics made, records produced with their acknowledgements kept, partitions read.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

/// Long enough for two busy cores and a debug build; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration with the bootstrap address and `properties`.
pub(crate) fn config(bootstrap: &str, properties: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (key, value) in properties {
        config.set(*key, *value);
    }
    config
}

/// Creates a topic through CreateTopics and waits for the answer.
pub(crate) fn create_topic(bootstrap: &str, name: &str, partitions: i32, topic_configs: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap, &[]).create().unwrap();
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in topic_configs {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let results = block_on(admin.create_topics([&topic], &options)).unwrap();
    assert_eq!(results, [Ok(name.to_owned())]);
}

/// Node ids and addresses of the cluster, ordered.
pub(crate) fn nodes(bootstrap: &str) -> Vec<(i32, String)> {
    let consumer: BaseConsumer = config(bootstrap, &[]).create().unwrap();
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    let mut nodes: Vec<_> =
        metadata.brokers().iter().map(|node| (node.id(), format!("{}:{}", node.host(), node.port()))).collect();
    nodes.sort();
    nodes
}

/// Reads every partition from its start to the end it has now, through one consumer with an assignment, and asserts
/// that offsets are dense from 0. Returns the ends.
///
/// `each` sees the records of a partition in order; partitions are interleaved.
pub(crate) fn read_topic(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Vec<i64> {
    let consumer: BaseConsumer = config(
        bootstrap,
        &[("group.id", "reader"), ("enable.auto.commit", "false"), ("check.crcs", "true"), ("fetch.wait.max.ms", "50")],
    )
    .create()
    .unwrap();
    let ends: Vec<i64> = (0..partitions).map(|partition| end_of(&consumer, topic, partition)).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Offset(0)).unwrap();
    }
    consumer.assign(&assignment).unwrap();

    let mut next = vec![0_i64; ends.len()];
    let mut progress = Instant::now();
    let mut last_error = None;
    while next.iter().zip(&ends).any(|(next, end)| next < end) {
        let waited = progress.elapsed();
        assert!(waited < PATIENCE, "read {next:?} of {ends:?} of {topic}, then nothing for {waited:?}: {last_error:?}");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let partition = usize::try_from(message.partition()).unwrap();
                // Past the end is what was produced since; the other partitions are still read.
                if next[partition] < ends[partition] {
                    assert_eq!(message.offset(), next[partition], "dense offsets in {topic}-{partition}");
                    next[partition] += 1;
                    each(&message);
                }
                progress = Instant::now();
            }
            // librdkafka reports what it retries by itself (a lost connection): the deadline judges.
            Some(Err(error)) => {
                assert!(!matches!(error, KafkaError::MessageConsumptionFatal(_)), "{error}");
                last_error = Some(error);
            }
            None => {}
        }
    }
    ends
}

/// The end offset of each partition.
pub(crate) fn ends(bootstrap: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let consumer: BaseConsumer = config(bootstrap, &[]).create().unwrap();
    (0..partitions).map(|partition| end_of(&consumer, topic, partition)).collect()
}

/// The end of a partition whose log starts at 0, asked for as a consumer asks: again while the broker says that the
/// partition has no leader yet, as Kafka does after a crash.
fn end_of(consumer: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    let started = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, PATIENCE) {
            Ok((start, end)) => {
                assert_eq!(start, 0, "log start of {topic}-{partition}");
                return end;
            }
            Err(error) => {
                let retriable = [RDKafkaErrorCode::NotLeaderForPartition, RDKafkaErrorCode::LeaderNotAvailable];
                let patient = started.elapsed() < PATIENCE;
                let code = error.rdkafka_error_code();
                assert!(patient && code.is_some_and(|code| retriable.contains(&code)), "{topic}-{partition}: {error}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Runs a future of the admin client, which librdkafka's own thread completes.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

//! librdkafka's groups, unmodified, against a `corelane` process: members share partitions and hand them over without
//! handling a record twice, commits survive, in both group protocols, however many shards there are.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use common::broker::{Broker, Settings};
use common::client::{self, PATIENCE};

const TOPIC: &str = "shared";
const PARTITIONS: i32 = 6;

/// What a member needs besides a name: the classic protocol in both ways of rebalancing, and KIP-848.
const EAGER: &[(&str, &str)] = &[("partition.assignment.strategy", "range"), ("session.timeout.ms", "6000")];
const COOPERATIVE: &[(&str, &str)] =
    &[("partition.assignment.strategy", "cooperative-sticky"), ("session.timeout.ms", "6000")];
const KIP_848: &[(&str, &str)] = &[("group.protocol", "consumer")];

fn broker(shards: u16) -> Broker {
    let set = vec![
        "group.initial.rebalance.delay.ms=0",
        // librdkafka takes the interval for the timeout of the heartbeat too, and does not ask for its assignment again after
        // one: a member whose answer comes late keeps what it should give up, with Apache Kafka as well.
        "group.consumer.min.heartbeat.interval.ms=3000",
        "group.consumer.heartbeat.interval.ms=3000",
    ];
    Broker::start(&Settings { shards, set, ..Settings::default() })
}

fn member(broker: &Broker, group: &str, more: &[(&str, &str)]) -> BaseConsumer {
    let mut properties = vec![
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("fetch.wait.max.ms", "50"),
        ("reconnect.backoff.max.ms", "500"),
    ];
    if !more.contains(&KIP_848[0]) {
        properties.push(("heartbeat.interval.ms", "500"));
    }
    properties.extend(more);
    client::config(&broker.bootstrap(), &properties).create().unwrap()
}

/// Produces numbers, one record each, to the partitions in turn.
fn produce(broker: &Broker, numbers: std::ops::Range<u64>, codec: &str) {
    let properties = [("enable.idempotence", "true"), ("compression.codec", codec)];
    let producer: BaseProducer = client::config(&broker.bootstrap(), &properties).create().unwrap();
    for number in numbers {
        let partition = i32::try_from(number % u64::try_from(PARTITIONS).unwrap()).unwrap();
        let text = number.to_string();
        producer
            .send(BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&text))
            .map_err(|(e, _)| e)
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Repeats what a coordinator refuses while it moves, loads, or has a rebalance half done. Members do what the rebalance
/// needs of them meanwhile, beside the thread that waits here.
fn patiently<T>(mut attempt: impl FnMut() -> KafkaResult<T>) -> T {
    use RDKafkaErrorCode::*;
    let passing = [
        CoordinatorLoadInProgress,
        CoordinatorNotAvailable,
        NotCoordinator,
        RebalanceInProgress,
        // The others are a generation ahead; this member is on its way there.
        IllegalGeneration,
        StaleMemberEpoch,
        OperationTimedOut,
        RequestTimedOut,
        BrokerTransportFailure,
    ];
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) => {
                let passes = error.rdkafka_error_code().is_some_and(|code| passing.contains(&code));
                assert!(passes && started.elapsed() < PATIENCE, "{error}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// A member with what it handled.
struct Member {
    consumer: BaseConsumer,
    handled: Vec<u64>,
}

impl Member {
    fn join(broker: &Broker, group: &str, properties: &[(&str, &str)]) -> Member {
        let consumer = member(broker, group, properties);
        consumer.subscribe(&[TOPIC]).unwrap();
        Member { consumer, handled: Vec::new() }
    }

    /// Takes what is there at once and commits it.
    fn poll(&mut self) {
        match self.consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => {
                let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
                self.handled.push(text.parse().unwrap());
                patiently(|| self.consumer.commit_message(&message, CommitMode::Sync));
            }
            // librdkafka retries by itself what a rebalance or a restart refuses: deadlines judge.
            Some(Err(error)) => assert!(!matches!(error, KafkaError::MessageConsumptionFatal(_)), "{error}"),
            None => {}
        }
    }

    fn owned(&self) -> BTreeSet<i32> {
        self.consumer.assignment().unwrap().elements().iter().map(|element| element.partition()).collect()
    }
}

/// Polls all members until `done`.
fn run(members: &mut [&mut Member], what: &str, mut done: impl FnMut(&[&mut Member]) -> bool) {
    let started = Instant::now();
    while !done(members) {
        let owned: Vec<_> = members.iter().map(|member| member.owned()).collect();
        assert!(started.elapsed() < PATIENCE, "{what}; owned {owned:?}");
        members.iter_mut().for_each(|member| member.poll());
    }
}

/// Every partition has one owner, and every member a partition.
fn shared(members: &[&mut Member]) -> bool {
    let shares: Vec<BTreeSet<i32>> = members.iter().map(|member| member.owned()).collect();
    let all: BTreeSet<i32> = shares.iter().flatten().copied().collect();
    let count: usize = shares.iter().map(BTreeSet::len).sum();
    let partitions = usize::try_from(PARTITIONS).unwrap();
    shares.iter().all(|share| !share.is_empty()) && count == partitions && all.len() == partitions
}

fn handled(members: &[&mut Member]) -> usize {
    members.iter().map(|member| member.handled.len()).sum()
}

/// What the group committed, by partition.
fn committed(broker: &Broker, group: &str) -> BTreeMap<i32, Offset> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(TOPIC, 0, PARTITIONS - 1);
    let consumer = member(broker, group, &[]);
    let told = patiently(|| consumer.committed_offsets(asked.clone(), PATIENCE));
    told.elements().iter().map(|element| (element.partition(), element.offset())).collect()
}

fn every(offset: i64) -> BTreeMap<i32, Offset> {
    (0..PARTITIONS).map(|partition| (partition, Offset::Offset(offset))).collect()
}

/// One member, then two, then the other alone: every record is handled exactly once, and committed.
fn hand_over(properties: &[(&str, &str)]) {
    let broker = broker(2);
    client::create_topic(&broker.bootstrap(), TOPIC, PARTITIONS, &[]);
    produce(&broker, 0..60, "none");
    let mut first = Member::join(&broker, "g", properties);
    run(&mut [&mut first], "one member reads all", |members| handled(members) == 60);

    let mut second = Member::join(&broker, "g", properties);
    run(&mut [&mut first, &mut second], "two members share", shared);
    produce(&broker, 60..120, "none");
    run(&mut [&mut first, &mut second], "two members read all", |members| handled(members) == 120);
    assert!(!second.handled.is_empty());

    let mut numbers = std::mem::take(&mut first.handled);
    drop(first);
    run(&mut [&mut second], "the one that stays has all", shared);
    produce(&broker, 120..180, "none");
    let wanted = 180 - numbers.len();
    run(&mut [&mut second], "the one that stays reads all", |members| handled(members) == wanted);

    numbers.append(&mut second.handled);
    numbers.sort();
    assert_eq!(numbers, (0..180).collect::<Vec<u64>>(), "each exactly once");
    drop(second);
    assert_eq!(committed(&broker, "g"), every(30));
}

#[test]
fn an_eager_group_hands_over_in_order() {
    hand_over(EAGER);
}

#[test]
fn a_cooperative_group_hands_over_in_order() {
    hand_over(COOPERATIVE);
}

#[test]
fn a_kip_848_group_hands_over_in_order() {
    hand_over(KIP_848);
}

/// The members live on through a crash of the broker and lose neither their places nor a commit.
fn crash(properties: &[(&str, &str)]) {
    let mut broker = broker(2);
    client::create_topic(&broker.bootstrap(), TOPIC, PARTITIONS, &[]);
    produce(&broker, 0..60, "none");
    let mut first = Member::join(&broker, "g", properties);
    let mut second = Member::join(&broker, "g", properties);
    run(&mut [&mut first, &mut second], "two members share and read all", |members| {
        shared(members) && handled(members) >= 60
    });
    // Joins of this size may hand a record over that was not committed yet; what is committed now is what counts.
    assert_eq!(committed(&broker, "g"), every(10));
    let before = handled(&[&mut first, &mut second]);
    broker.kill();
    broker.start_again();
    assert_eq!(committed(&broker, "g"), every(10));
    produce(&broker, 60..120, "none");
    run(&mut [&mut first, &mut second], "both read on", |members| handled(members) >= before + 60 && shared(members));
    let mut numbers: Vec<u64> = first.handled.iter().chain(&second.handled).copied().filter(|&n| n >= 60).collect();
    numbers.sort();
    assert_eq!(numbers, (60..120).collect::<Vec<u64>>(), "nothing committed was read again, nothing is missing");
    drop((first, second));
    assert_eq!(committed(&broker, "g"), every(20));
}

#[test]
fn a_classic_group_lives_through_a_crash_of_the_broker() {
    crash(COOPERATIVE);
}

#[test]
fn a_kip_848_group_lives_through_a_crash_of_the_broker() {
    crash(KIP_848);
}

#[test]
fn a_static_member_that_returns_in_time_keeps_its_partitions() {
    let broker = broker(2);
    client::create_topic(&broker.bootstrap(), TOPIC, PARTITIONS, &[]);
    // Longer than this test: its place must be waiting whenever the member returns.
    let with_instance = |instance| {
        let strategy = ("partition.assignment.strategy", "range");
        [strategy, ("session.timeout.ms", "60000"), ("group.instance.id", instance)]
    };
    let mut stays = Member::join(&broker, "g", &with_instance("stays"));
    let mut returns = Member::join(&broker, "g", &with_instance("returns"));
    run(&mut [&mut stays, &mut returns], "two static members share", shared);
    let (kept, left) = (stays.owned(), returns.owned());
    drop(returns);
    // Long enough for a rebalance to begin, if the leaving one had caused any.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        stays.poll();
        assert_eq!(stays.owned(), kept, "while the other is away");
    }
    let mut returns = Member::join(&broker, "g", &with_instance("returns"));
    run(&mut [&mut stays, &mut returns], "both have partitions again", shared);
    assert_eq!((stays.owned(), returns.owned()), (kept, left));
}

#[test]
fn a_consumer_that_assigns_itself_commits_without_joining() {
    let mut broker = broker(3);
    client::create_topic(&broker.bootstrap(), TOPIC, PARTITIONS, &[]);
    // So many that every shard coordinates some.
    let groups: Vec<String> = (0..24).map(|number| format!("simple-{number}")).collect();
    for (number, group) in groups.iter().enumerate() {
        let consumer = member(&broker, group, &[]);
        let mut offsets = TopicPartitionList::new();
        let offset = i64::try_from(number).unwrap();
        for partition in 0..PARTITIONS {
            offsets.add_partition_offset(TOPIC, partition, Offset::Offset(offset)).unwrap();
        }
        patiently(|| consumer.commit(&offsets, CommitMode::Sync));
    }
    for restarted in [false, true] {
        if restarted {
            assert!(broker.stop().success());
            broker.start_again();
        }
        for (number, group) in groups.iter().enumerate() {
            assert_eq!(committed(&broker, group), every(i64::try_from(number).unwrap()), "{group}, {restarted}");
        }
    }
    assert_eq!(committed(&broker, "nobody"), (0..PARTITIONS).map(|p| (p, Offset::Invalid)).collect());
}

#[test]
fn lz4_is_used_where_groups_are_known() {
    // librdkafka takes lz4 for supported once the broker lists FindCoordinator, and falls back to no codec otherwise.
    let broker = broker(1);
    client::create_topic(&broker.bootstrap(), TOPIC, PARTITIONS, &[]);
    produce(&broker, 0..600, "lz4");
    let mut only = Member::join(&broker, "g", EAGER);
    run(&mut [&mut only], "all are read", |members| handled(members) == 600);
    only.handled.sort();
    assert_eq!(only.handled, (0..600).collect::<Vec<u64>>());
}

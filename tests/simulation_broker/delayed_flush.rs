//! Every flush takes 200 ms: no acks=all answer on a flushed topic comes before its flush has ended, and acks=1 answers do.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::compression::Codec;
use corelane::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::record_batch::BatchBuilder;
use corelane::protocol::wire::Records;
use corelane::runtime::Runtime;
use corelane::simulation::disk::Latency;
use corelane::simulation::random::Random;
use corelane::simulation::seeds::Seeds;
use corelane::simulation::{Options, Simulation};

use crate::connection::Connection;
use crate::machine::{Plan, Process};

const FLUSH: Duration = Duration::from_millis(200);
/// More than a write of this disk takes, less than a flush.
const WRITE_MAX: Duration = Duration::from_millis(20);

#[test]
fn an_answer_waits_for_its_flush_and_for_no_other() {
    Seeds::from_environment(5).each(|seed| {
        let mut random = Random::new(seed).split();
        let plan = Plan::draw(&mut random);
        let shards = u16::try_from(random.range(1..4)).unwrap();
        let mut options = Options::any(&mut random.split());
        // A machine that stands still answers nobody.
        options.overslept_us_max = 0;
        let quick = Latency { usual_us: 10..200, spikes_per_mille: 0, spike_us: 0..1 };
        options.disk.read = quick.clone();
        options.disk.write = quick.clone();
        options.disk.flush = quick.clone();
        options.disk.names = quick;
        options.disk.flush_delay_us = u64::try_from(FLUSH.as_micros()).unwrap();
        Simulation::with_options(seed, options)
            .run(|runtime| async move {
                let process = Process::start(&runtime, &plan, shards).await.unwrap();
                for (name, flush_messages) in [("flushed", "1"), ("written", "7")] {
                    create(&process, name, flush_messages).await;
                }
                for round in 0..20 {
                    // Another flush may be under way, or none.
                    runtime.sleep(Duration::from_millis(random.below(400))).await;
                    let (name, acks) =
                        *random.pick(&[("flushed", -1), ("flushed", 1), ("written", -1), ("written", 1)]);
                    let took = produce(&process, &mut random, name, acks).await;
                    if (name, acks) == ("flushed", -1) {
                        assert!(took >= FLUSH, "round {round}: {name} acks={acks} was answered after {took:?}");
                    } else {
                        assert!(took <= WRITE_MAX, "round {round}: {name} acks={acks} was answered after {took:?}");
                    }
                }
            })
            .finished();
    });
}

async fn create(process: &Rc<Process>, name: &str, flush_messages: &str) {
    let config =
        CreatableTopicConfig { name: Cow::Borrowed("flush.messages"), value: Some(Cow::Borrowed(flush_messages)) };
    let topic = CreatableTopic {
        name: Cow::Borrowed(name),
        num_partitions: 1,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: vec![config],
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only: false };
    process.connect(0).ask(&request, 7).await.unwrap();
}

async fn produce(process: &Rc<Process>, random: &mut Random, name: &str, acks: i16) -> Duration {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(process.runtime.wall_clock(), None, Some(b"value"), &[]);
    let batch = builder.build();
    let connection: Connection = process.connect_anywhere(random);
    let partition_data = vec![PartitionProduceData { index: 0, records: Records::Bytes(&batch) }];
    let topic_data =
        vec![TopicProduceData { name: Cow::Borrowed(name), partition_data, ..TopicProduceData::default() }];
    let request = ProduceRequest { acks, timeout_ms: 30_000, topic_data, transactional_id: None };
    let sent = process.runtime.now();
    let answer = connection.ask(&request, 9).await.unwrap();
    let response = ProduceResponse::decode(&mut answer.reader(), 9).unwrap();
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    Duration::from_micros(process.runtime.now().since_us(sent))
}

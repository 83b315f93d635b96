//! A disk that stands still for longer than clients wait: what was asked of the controller meanwhile is done once, and once
//! only.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::error_code::ErrorCode;
use corelane::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelane::protocol::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelane::runtime::Runtime;
use corelane::simulation::random::Random;
use corelane::simulation::seeds::Seeds;
use corelane::simulation::{SimulatedRuntime, Simulation};

use crate::machine::{Plan, Process};

/// More than anybody waits, the controller of an earlier version included.
const STALL: Duration = Duration::from_secs(15);

/// A metadata record that was not durable within ten seconds was taken for refused, although it stood in the log: the topic
/// was created again beside itself, or served on after it had been deleted, and the next start failed, or lost what had been
/// acknowledged since.
#[test]
fn what_the_controller_was_asked_while_the_disk_stood_still_is_done_once() {
    Seeds::from_environment(5).each(|seed| {
        let mut random = Random::new(seed).split();
        let plan = Plan::draw(&mut random);
        let shards = u16::try_from(random.range(1..4)).unwrap();
        let mut simulation = Simulation::new(seed);
        let first = plan.clone();
        simulation
            .run(|runtime| async move {
                let process = Process::start(&runtime, &first, shards).await.unwrap();
                assert_eq!(create(&process, "stays").await, ErrorCode::None);
                stall(&runtime, STALL);
                assert_eq!(create(&process, "comes").await, ErrorCode::RequestTimedOut);
                assert_eq!(create(&process, "comes").await, ErrorCode::RequestTimedOut);
                assert_eq!(delete(&process, "stays").await, ErrorCode::RequestTimedOut);
                assert_eq!(delete(&process, "stays").await, ErrorCode::RequestTimedOut);
                stall(&runtime, Duration::ZERO);
                runtime.sleep(STALL * 5).await;
                assert_eq!(create(&process, "comes").await, ErrorCode::TopicAlreadyExists);
                assert_eq!(delete(&process, "stays").await, ErrorCode::UnknownTopicOrPartition);
                process.stop().await.unwrap();
            })
            .finished();
        simulation
            .run(|runtime| async move {
                let process = Process::start(&runtime, &plan, shards).await.unwrap();
                assert_eq!(create(&process, "comes").await, ErrorCode::TopicAlreadyExists);
                assert_eq!(delete(&process, "stays").await, ErrorCode::UnknownTopicOrPartition);
            })
            .finished();
    });
}

fn stall(runtime: &SimulatedRuntime, flush: Duration) {
    runtime.disk().change(|options| options.flush_delay_us = u64::try_from(flush.as_micros()).unwrap());
}

async fn create(process: &Rc<Process>, name: &str) -> ErrorCode {
    let topic = CreatableTopic {
        name: Cow::Borrowed(name),
        num_partitions: 2,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false };
    let answer = process.connect(0).ask(&request, 7).await.unwrap();
    let response = CreateTopicsResponse::decode(&mut answer.reader(), 7).unwrap();
    ErrorCode::from_code(response.topics[0].error_code).unwrap()
}

async fn delete(process: &Rc<Process>, name: &str) -> ErrorCode {
    let request = DeleteTopicsRequest {
        topic_names: vec![Cow::Borrowed(name)],
        timeout_ms: 5_000,
        ..DeleteTopicsRequest::default()
    };
    let answer = process.connect(0).ask(&request, 5).await.unwrap();
    let response = DeleteTopicsResponse::decode(&mut answer.reader(), 5).unwrap();
    ErrorCode::from_code(response.responses[0].error_code).unwrap()
}

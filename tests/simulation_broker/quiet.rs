//! Without other traffic: whoever writes finds it again from another connection, soon.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::wire::Records;
use corelane::runtime::Runtime;
use corelane::types::Durability;

use crate::calls::{LATEST, list_offset};
use crate::fetching::{Fetch, Wanted};
use crate::machine::Process;
use crate::model::Topic;
use crate::world::{STABLE, Shared, elapsed, resolve};

/// Longest that one's own write stays unseen: a flush, and the slowest disk of all seeds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes with acks=1 to a topic, asks for its end and reads it, each from another connection.
pub(crate) async fn check(process: &Rc<Process>, world: &Shared) {
    let name = *world.borrow_mut().random.pick(&STABLE);
    if !matches!(world.borrow().model.topic(name), Topic::Alive(_)) {
        return;
    }
    let writing = process.connect_anywhere(&mut world.borrow_mut().random);
    let (id, leaders) = resolve(process, world, &writing, name).await.expect("a topic that stays is there");
    let partition = i32::try_from(world.borrow_mut().random.index(leaders.len())).unwrap();
    let key = (id, partition);
    let (batch, bytes, count) = world.borrow_mut().batch(key, None, process.runtime.wall_clock(), 9);
    let partition_data = vec![PartitionProduceData { index: partition, records: Records::Bytes(&bytes) }];
    let topic_data =
        vec![TopicProduceData { name: Cow::Borrowed(name), partition_data, ..TopicProduceData::default() }];
    let request = ProduceRequest { acks: 1, timeout_ms: 30_000, topic_data, transactional_id: None };
    let answer = writing.ask(&request, 9).await.expect("a healthy broker answers");
    let response = ProduceResponse::decode(&mut answer.reader(), 9).unwrap();
    let row = &response.responses[0].partition_responses[0];
    assert_eq!(row.error_code, 0, "{name}: {:?}", row.error_message);
    let base = row.base_offset;
    let written = process.runtime.now();
    world.borrow_mut().model.on_acknowledged(batch, base, Durability::Written, written);

    let asking = process.connect_anywhere(&mut world.borrow_mut().random);
    let reading = process.connect_anywhere(&mut world.borrow_mut().random);
    let latest_first = world.borrow_mut().random.chance(1, 2);
    if latest_first {
        let row = list_offset(&asking, name, partition, LATEST).await.expect("a healthy broker answers");
        assert_eq!(row.error_code, 0);
        let expected = base + i64::from(count);
        assert!(row.offset >= expected, "{name}: the end is {} for one who wrote up to {expected}", row.offset);
    }
    let fetch = Fetch {
        version: 11,
        name,
        id,
        max_wait_ms: 20_000,
        min_bytes: 1,
        max_bytes: 1_000_000,
        partition_max_bytes: 1_000_000,
        session: (0, -1),
        partitions: vec![Wanted { partition, offset: base, leader_epoch: -1, last_epoch: -1 }],
    };
    let answer = fetch.ask(&reading).await.expect("a healthy broker answers");
    let got = &answer.partitions[0];
    assert_eq!(got.error, 0);
    let read = world.borrow_mut().model.on_read(key, base, got.high_watermark, &got.records);
    assert!(read.first().is_some_and(|(_, seen)| seen.batch == batch), "{name}: one's own write is not there");
    let took = elapsed(written, process.runtime.now());
    assert!(took < PATIENCE, "{name}: one's own write was seen after {took:?}");
}

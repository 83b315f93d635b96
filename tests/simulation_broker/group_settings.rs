//! Settings of single groups: the heartbeat intervals that were asked for, and what members are told.
//!
//! A change that was answered counts for every heartbeat sent after that, on every shard and in every later life; one that
//! was not may count or not.

use std::borrow::Cow;

use corelane::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use crate::groups::{Groups, STORAGE_ERROR};
use crate::machine::Process;

/// `group.consumer.heartbeat.interval.ms` of every life.
pub(crate) const BROKER_INTERVAL_MS: i32 = 20;
const KEY: &str = "consumer.heartbeat.interval.ms";
const GROUP_RESOURCE: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// The heartbeat intervals of one group, in milliseconds.
#[derive(Debug)]
pub(crate) struct Intervals {
    /// In the order in which they were asked for.
    asked: Vec<i32>,
    /// Place of the last one that was answered.
    answered: usize,
}

impl Default for Intervals {
    fn default() -> Intervals {
        Intervals { asked: vec![BROKER_INTERVAL_MS], answered: 0 }
    }
}

impl Intervals {
    /// What a heartbeat that is sent now is told at least as news.
    pub(crate) fn answered(&self) -> usize {
        self.answered
    }

    /// Whether a heartbeat may be told this that was sent when the change at `answered` was the last one answered.
    pub(crate) fn may_be(&self, interval_ms: i32, answered: usize) -> bool {
        self.asked[answered..].contains(&interval_ms)
    }
}

/// Gives one of the groups another heartbeat interval, or the broker's. `None`: the disk fails.
pub(crate) async fn change(process: &Process, groups: &Groups, group: &'static str) -> Option<()> {
    let (connection, interval_ms) = {
        let random = &mut groups.borrow_mut().random;
        let interval_ms = random.chance(3, 4).then(|| i32::try_from(random.range(21..900)).unwrap());
        (process.connect_anywhere(random), interval_ms)
    };
    let value = interval_ms.map(|interval_ms| Cow::Owned(interval_ms.to_string()));
    let config_operation = if value.is_some() { SET } else { DELETE };
    let resource = AlterConfigsResource {
        resource_type: GROUP_RESOURCE,
        resource_name: Cow::Borrowed(group),
        configs: vec![AlterableConfig { name: Cow::Borrowed(KEY), config_operation, value }],
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let of_group = |act: &dyn Fn(&mut Intervals)| {
        act(groups.borrow_mut().intervals.get_mut(group).expect("it is one of them"));
    };
    of_group(&|intervals| intervals.asked.push(interval_ms.unwrap_or(BROKER_INTERVAL_MS)));
    let answer = connection.ask(&request, 1).await.ok()?;
    let response = IncrementalAlterConfigsResponse::decode(&mut answer.reader(), 1).unwrap();
    let row = &response.responses[0];
    if row.error_code == STORAGE_ERROR && groups.borrow().faulty {
        return None;
    }
    assert_eq!(row.error_code, 0, "{group}: {:?}", row.error_message);
    of_group(&|intervals| intervals.answered = intervals.asked.len() - 1);
    Some(())
}

//! Consumers that assign themselves: they commit, read and delete offsets of groups without members.

use std::borrow::Cow;
use std::rc::Rc;

use corelane::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
};

use crate::connection::Connection;
use crate::group_calls::{GROUP_NOT_FOUND, NOBODY, UNKNOWN_TOPIC, ask, commit, connect, fetch, is_absent};
use crate::groups::{Groups, TOPICS, pause};
use crate::machine::Process;

/// Works for these groups until the clients are told to leave.
pub(crate) async fn run(process: Rc<Process>, groups: Groups, names: [&'static str; 2]) {
    while !groups.borrow().stopping {
        pause(&process.runtime, &groups).await;
        let group = *groups.borrow_mut().random.pick(&names);
        let Some(connection) = connect(&process, &groups, group).await else { continue };
        loop {
            pause(&process.runtime, &groups).await;
            let act = groups.borrow_mut().random.below(20);
            if groups.borrow().stopping || act == 0 {
                break;
            }
            let error = match act {
                1 => delete(&process, &groups, &connection, group).await,
                2..12 => {
                    let mut rows = vec![groups.borrow_mut().any_place()];
                    let more = groups.borrow_mut().random.below(4);
                    rows.extend((0..more).map(|_| groups.borrow_mut().any_place()));
                    rows.sort_unstable();
                    rows.dedup();
                    commit(&process, &groups, &connection, group, NOBODY, &rows).await
                }
                _ => fetch(&process, &groups, &connection, group, None).await,
            };
            match error {
                Some(0 | UNKNOWN_TOPIC) => {}
                Some(error) => assert!(is_absent(error), "{group}: an offset request failed with {error}"),
                None => break,
            }
        }
    }
}

async fn delete(process: &Process, groups: &Groups, connection: &Connection, group: &'static str) -> Option<i16> {
    let place = groups.borrow_mut().any_place();
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: place.1 }];
    let topics = vec![OffsetDeleteRequestTopic { name: Cow::Borrowed(TOPICS[place.0].name), partitions }];
    let request = OffsetDeleteRequest { group_id: Cow::Borrowed(group), topics };
    let number = groups.borrow_mut().begin(group, place, false);
    let answer = ask(process, groups, connection, &request, 0).await?;
    let response = OffsetDeleteResponse::decode(&mut answer.reader(), 0).unwrap();
    let error = match response.error_code {
        0 => response.topics[0].partitions[0].error_code,
        error => error,
    };
    groups.borrow_mut().end(group, place, number, error);
    Some(if [UNKNOWN_TOPIC, GROUP_NOT_FOUND].contains(&error) { 0 } else { error })
}

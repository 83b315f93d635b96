//! A shard's end of its lane: handles what siblings send, in order.

use std::rc::Rc;

use bytes::Bytes;

use super::Broker;
use crate::runtime::Runtime;
use crate::shard::message::{Message, ReadOutcome};
use crate::shard::{RecordSlice, Shard};
use crate::store::StorageError;

/// Starts the task that receives. It ends when the lane is closed and empty.
pub fn start<R: Runtime>(broker: &Rc<Broker<R>>) {
    let broker = Rc::clone(broker);
    broker.shard.runtime.clone().spawn(async move {
        while let Some(message) = broker.own_lane().receive().await {
            handle(&broker, message).await;
        }
        // Whoever still waits for an image learns that none will come.
        broker.on_first_image.borrow_mut().take();
    });
}

/// Appends and images are applied here, one after the other, since their order counts; whatever waits gets a task of its
/// own. Their number is bounded by the requests that siblings have in flight.
async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, message: Message) {
    let shard = Rc::clone(&broker.shard);
    let runtime = shard.runtime.clone();
    match message {
        #[cfg(corelane_defect = "crossing_out_of_order")]
        Message::Produce(part, reply) => runtime.spawn(async move {
            let applied = shard.produce(part).await;
            reply.send(shard.settle(applied).await);
        }),
        #[cfg(not(corelane_defect = "crossing_out_of_order"))]
        Message::Produce(part, reply) => {
            let applied = shard.produce(part).await;
            runtime.spawn(async move { reply.send(shard.settle(applied).await) });
        }
        Message::Read(part, reply) => runtime.spawn(async move {
            // Each partition is copied before the next is read, so that what is pinned here stays little.
            reply.send(shard.read(&part, to_cross::<R>).await);
        }),
        Message::Watch(part, reply) => runtime.spawn(async move {
            shard.watch_for_sibling(part).await;
            reply.send(());
        }),
        Message::ListOffsets(wanted, reply) => runtime.spawn(async move {
            reply.send(shard.list_offsets(&wanted).await);
        }),
        Message::EpochEnds(wanted, reply) => runtime.spawn(async move {
            reply.send(shard.epoch_ends(&wanted).await);
        }),
        Message::DeleteRecords(wanted, reply) => runtime.spawn(async move {
            reply.send(shard.delete_records(&wanted).await);
        }),
        Message::DescribeProducers(wanted, reply) => reply.send(shard.describe_producers(&wanted)),
        Message::LogDirectory(wanted, reply) => reply.send(shard.log_directory(wanted.as_deref())),
        Message::Group(call, reply) => {
            let answer = shard.begin_group_call(&call).await;
            runtime.spawn(async move {
                // An answer that never comes drops the reply, which says so.
                if let Some(answer) = answer.finish().await {
                    reply.send(answer);
                }
            });
        }
        Message::Control(request, reply) => {
            let log = broker.metadata_log.as_ref().expect("control messages go to the controller's shard");
            // Only a controller that is shutting down refuses; the dropped reply says so.
            let _ = log.enqueue(request, reply).await;
        }
        Message::Image(published, reply) => {
            take_in(&shard, &published);
            reply.send(());
            if let Some(first) = broker.on_first_image.borrow_mut().take() {
                first.send(());
            }
        }
        Message::Removals(removed, reply) => reply.send(shard.removals_needed(&removed)),
    }
}

/// A shard whose store has failed cannot create logs; it keeps its partitions and says why. One that is full does so later.
pub(super) fn take_in<R: Runtime>(shard: &Rc<Shard<R>>, published: &crate::shard::message::Published) {
    if let Err(error) = shard.on_image(published) {
        let later = if matches!(error, StorageError::Full { .. }) { ": it is tried again" } else { "" };
        tracing::error!("shard {}: cannot follow the metadata: {error}{later}", shard.id);
    }
}

/// Blocks cannot leave their core, so the records are copied.
fn to_cross<R: Runtime>(outcome: ReadOutcome<RecordSlice<R>>) -> ReadOutcome<Bytes> {
    outcome.map_records(|records| {
        let mut copy = Vec::with_capacity(records.iter().map(RecordSlice::<R>::len).sum());
        records.iter().for_each(|slice| copy.extend_from_slice(slice.as_slice()));
        if copy.is_empty() { Vec::new() } else { vec![Bytes::from(copy)] }
    })
}

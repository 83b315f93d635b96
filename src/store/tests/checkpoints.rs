//! What becomes of a store whose checkpoint cannot be written.

use super::*;
use crate::simulation::disk::Operation;

/// The data directory was removed while the broker ran: no checkpoint could be created, which was taken for a full disk, and
/// the store went on acknowledging what no start would find. Only lack of space passes by itself.
#[test]
fn a_checkpoint_that_cannot_be_created_makes_the_store_read_only_unless_space_is_lacking() {
    let mut simulation = Simulation::new(1);
    let disk = simulation.disk();
    simulation
        .run(|runtime| async move {
            let (store, _) = open(&runtime, options()).await;
            // A checkpoint that is larger than its file, for which there is no room.
            for partition in 0..1000 {
                store.reserve(200).await.unwrap();
                store.create(TopicId::new([1; 16]), PartitionIndex::new(partition)).unwrap();
            }
            disk.change(|options| options.capacity_bytes = 0);
            let full = store.checkpoint().await;
            assert!(matches!(full, Err(StorageError::Full { .. })), "{full:?}");
            assert!(store.failure().is_none());
            disk.change(|options| options.capacity_bytes = u64::MAX);
            // An error that is not about space.
            disk.fail(Operation::Write, "checkpoint", 0);
            let failed = store.checkpoint().await;
            assert!(matches!(failed, Err(StorageError::ReadOnly { operation: "checkpoint", .. })), "{failed:?}");
            assert!(store.create(TopicId::new([1; 16]), PartitionIndex::new(0)).is_err());
        })
        .finished();
}

#[test]
fn a_store_that_is_made_read_only_takes_nothing_and_says_why() {
    let mut simulation = Simulation::new(2);
    simulation
        .run(|runtime| async move {
            let (store, _) = open(&runtime, options()).await;
            let (log, end) = store.create(TopicId::new([1; 16]), PartitionIndex::new(0)).unwrap();
            until_durable(&store, &runtime, end).await;
            store.make_read_only("look at its directory", &std::io::Error::other("it is gone"));
            let refused = append(&store, log, &batch_bytes(0, 1, 100, 1), Durability::Flushed).unwrap_err().to_string();
            assert_eq!(refused, "store is read-only after a failed look at its directory: it is gone");
            assert_eq!(store.progress().durable, end);
            assert!(store.checkpoint().await.is_err());
        })
        .finished();
}

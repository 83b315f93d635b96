//! What tools say of a store: nothing is damaged in one that works, also while it works; what is damaged is told.

use super::cleaning::{Mixed, cold_segments};
use super::*;
use crate::simulation::Crash;
use crate::store::inspect::{Damage, Inspection};

/// Reads all that counts, as `corelane log verify` does. `None` when the store was never the same for long enough.
async fn verify(runtime: &SimulatedRuntime, options: StoreOptions) -> Option<Vec<Damage>> {
    let directory = options.directory.clone();
    let inspection = Inspection::open(runtime.clone(), options).await.ok()?;
    let mut checks = Vec::new();
    for task in inspection.tasks() {
        checks.extend(task.check(runtime, &directory).await.unwrap());
    }
    Some(inspection.verdict(checks))
}

#[test]
fn a_store_that_is_written_recycled_and_cleaned_is_never_called_damaged() {
    Simulation::new(1)
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, options()).await;
            let looks = Rc::new(RefCell::new(0));
            let (looking, beside) = (Rc::clone(&looks), runtime.clone());
            runtime.spawn(async move {
                loop {
                    let damages = verify(&beside, options()).await.expect("it can be looked at");
                    assert_eq!(damages, []);
                    *looking.borrow_mut() += 1;
                }
            });
            for _ in 0..10 {
                mixed.fill(&runtime, 12).await;
                runtime.sleep(Duration::from_millis(500)).await;
            }
            let stats = mixed.store.stats();
            assert!(
                stats.segments_recycled > 0 && stats.moved_bytes > 0 && cold_segments(&runtime.disk()) > 0,
                "{stats:?}"
            );
            assert!(*looks.borrow() > 10, "{looks:?}");
            mixed.check().await;
        })
        .finished();
}

#[test]
fn what_a_crash_leaves_is_no_damage_and_a_flipped_bit_in_what_lives_is() {
    let mut told = 0;
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed);
        let crash = if seed % 2 == 0 { Crash::Power } else { Crash::Process };
        let ended = simulation.run(move |runtime| async move {
            let mut mixed = Mixed::create(&runtime, options()).await;
            mixed.fill(&runtime, 3 + seed % 9).await;
            runtime.sleep(Duration::from_millis(seed * 700)).await;
            mixed.fill(&runtime, 1).await;
            runtime.crash(crash);
            runtime.sleep(Duration::from_secs(1)).await;
        });
        assert!(ended.is_crash());
        let well = |simulation: &mut Simulation| {
            simulation.run(|runtime| async move { verify(&runtime, options()).await.unwrap() }).finished()
        };
        assert_eq!(well(&mut simulation), [], "seed {seed}");
        // In each segment that holds something for good, the first record of it.
        let stays = LogId::new(1);
        let disk = simulation.disk();
        for path in disk.paths() {
            let content = disk.content(&path).unwrap();
            let Some(at) = first_batch_of(stays, &content) else { continue };
            disk.flip_bit(&path, u64::try_from(at).unwrap() + 70, 3);
            let damages = well(&mut simulation);
            disk.flip_bit(&path, u64::try_from(at).unwrap() + 70, 3);
            // A file that waits to be used again holds what nobody misses.
            for damage in &damages {
                let bytes = damage.bytes.clone().expect("they are known");
                assert!(bytes.contains(&(u64::try_from(at).unwrap() + 70)), "seed {seed}: {damage:?}");
                assert!(path.ends_with(&damage.file) || damage.file.is_empty(), "seed {seed}: {damage:?}");
            }
            assert!(damages.len() <= 1, "seed {seed}: {damages:?}");
            told += damages.iter().filter(|damage| damage.loses_live()).count();
        }
        assert_eq!(well(&mut simulation), [], "seed {seed}");
    }
    assert!(told > 40, "{told}");
}

#[test]
fn a_lost_checkpoint_is_told_and_the_rest_can_still_be_read() {
    let mut simulation = Simulation::new(4);
    simulation
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, options()).await;
            mixed.fill(&runtime, 30).await;
            mixed.store.close().await.unwrap();
        })
        .finished();
    let disk = simulation.disk();
    for name in ["checkpoint-0", "checkpoint-1"] {
        disk.flip_bit(&options().directory.join(name), 20, 1);
    }
    simulation
        .run(|runtime| async move {
            let Err(refused) = Inspection::open(runtime.clone(), options()).await else { panic!("it is lost") };
            assert!(refused.is_lost_checkpoint(), "{refused}");
            let accepting = StoreOptions { accept_loss: true, ..options() };
            let inspection = Inspection::open(runtime.clone(), accepting).await.unwrap();
            assert!(!inspection.tasks().is_empty());
            assert_eq!(inspection.remarks().await.unwrap().len(), 2);
        })
        .finished();
}

/// Where the first batch of a log stands in a segment's file.
pub(super) fn first_batch_of(log: LogId, content: &[u8]) -> Option<usize> {
    use crate::store::format::{ENTRY_HEADER_BYTES, Entry, SegmentHeader};
    let header = SegmentHeader::decode(content).ok()?;
    (4096..content.len() - ENTRY_HEADER_BYTES).find_map(|at| {
        let entry = Entry::decode(&content[at..]).ok()?;
        let is_it = entry.header.log == log && entry.header.segment == header.number;
        let batch = is_it.then(|| entry.batches().next()).flatten()?;
        Some(batch.bytes().as_ptr().addr() - content.as_ptr().addr())
    })
}

#[test]
fn a_tool_says_what_the_store_says_of_itself() {
    Simulation::new(3)
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, options()).await;
            mixed.fill(&runtime, 30).await;
            runtime.sleep(Duration::from_secs(20)).await;
            mixed.store.checkpoint().await.unwrap();
            let inspection = Inspection::open(runtime.clone(), options()).await.unwrap();
            let (said, found) = (mixed.store.stats(), inspection.stats());
            assert_eq!((found.live_bytes, found.used_bytes), (said.live_bytes, said.used_bytes));
            assert_eq!(inspection.partitions(), mixed.store.partitions());
            let stays = found.partitions.iter().find(|partition| partition.record.log == mixed.stays).unwrap();
            assert_eq!(stays.live_bytes, mixed.store.log_bytes(mixed.stays));
            let mut batches = 0;
            inspection
                .for_each_batch(mixed.stays, |batch| {
                    assert_eq!(batch.base_offset(), Offset::new(batches));
                    batches += 1;
                })
                .await;
            assert_eq!(Offset::new(batches), stays.record.log_end);
        })
        .finished();
}

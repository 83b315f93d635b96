//! The scrub: what rots is found without a reader, once, and what does not is never called damaged.

use super::cleaning::{Mixed, cold_segments};
use super::inspect::first_batch_of;
use super::*;
use crate::store::format::{SegmentHeader, Stream};

fn scrubbing(bytes_per_second: u64) -> StoreOptions {
    StoreOptions { scrub: ScrubOptions { bytes_per_second, tick_ms: 100, interval_ms: 10_000 }, ..options() }
}

/// Whether a segment's file, by what its header says, is hot or cold.
fn stream_of(content: &[u8]) -> Option<Stream> {
    SegmentHeader::decode(content.get(..4096)?).ok().map(|header| header.stream)
}

#[test]
fn a_flipped_bit_in_old_data_is_found_once_and_stays() {
    for wanted in [Stream::Hot, Stream::Cold] {
        Simulation::new(7)
            .run(move |runtime| async move {
                // With so much slack the cleaner never begins.
                let clean_slack_segments = if wanted == Stream::Cold { 6 } else { 1000 };
                let options = StoreOptions { clean_slack_segments, ..scrubbing(1 << 20) };
                let mut mixed = Mixed::create(&runtime, options).await;
                mixed.fill(&runtime, 30).await;
                runtime.sleep(Duration::from_secs(30)).await;
                let stats = mixed.store.stats();
                assert!(stats.damaged_rows == 0 && stats.scrubbed_bytes > 0, "{stats:?}");
                assert_eq!(cold_segments(&runtime.disk()) > 0, wanted == Stream::Cold);
                let disk = runtime.disk();
                let first = disk.paths().into_iter().filter_map(|path| {
                    let content = disk.content(&path)?;
                    let at =
                        (stream_of(&content)? == wanted).then(|| first_batch_of(mixed.stays, &content)).flatten()?;
                    let number = SegmentHeader::decode(&content).ok()?.number;
                    Some((number, path, u64::try_from(at).unwrap()))
                });
                // The newest cold one, since of others only the files may be left; the oldest hot one, which is sealed.
                let (_, path, at) =
                    if wanted == Stream::Cold { first.max() } else { first.min() }.expect("the log is there");
                disk.flip_bit(&path, at + 80, 2);
                runtime.sleep(Duration::from_secs(15)).await;
                assert_eq!(mixed.store.stats().damaged_rows, 1, "{wanted:?}");
                runtime.sleep(Duration::from_secs(60)).await;
                let stats = mixed.store.stats();
                assert_eq!(stats.damaged_rows, 1, "{wanted:?}: once is enough");
                assert!(stats.scrubbed_at > TimestampMs::default());
                // The cleaner leaves it where it is, and tells nothing more of it.
                mixed.fill(&runtime, 20).await;
                runtime.sleep(Duration::from_secs(30)).await;
                assert_eq!(mixed.store.stats().damaged_rows, 1, "{wanted:?}");
                mixed.store.close().await.unwrap();
            })
            .finished();
    }
}

#[test]
fn it_reads_no_faster_than_it_may() {
    Simulation::new(5)
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, scrubbing(10_000)).await;
            mixed.fill(&runtime, 8).await;
            let (before, began) = (mixed.store.stats().scrubbed_bytes, runtime.now());
            runtime.sleep(Duration::from_secs(5)).await;
            let read = mixed.store.stats().scrubbed_bytes - before;
            let most = 10 * runtime.now().since_us(began) / 1000 + u64::from(crate::limits::SCRUB_READ_BYTES);
            assert!(read <= most, "{read} of {most}");
            runtime.sleep(Duration::from_secs(600)).await;
            assert!(mixed.store.stats().scrubbed_at > TimestampMs::default());
        })
        .finished();
}

#[test]
fn a_round_is_followed_by_a_rest() {
    Simulation::new(5)
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, scrubbing(100 << 20)).await;
            mixed.fill(&runtime, 8).await;
            runtime.sleep(Duration::from_secs(30)).await;
            let mut rounds = 0;
            for _ in 0..600 {
                let before = mixed.store.stats().scrubbed_bytes;
                runtime.sleep(Duration::from_millis(100)).await;
                rounds += u32::from(mixed.store.stats().scrubbed_bytes > before);
            }
            assert!((5..=7).contains(&rounds), "{rounds} in a minute, of one in ten seconds");
        })
        .finished();
}

#[test]
fn without_a_rate_nothing_is_read() {
    Simulation::new(5)
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, scrubbing(0)).await;
            mixed.fill(&runtime, 8).await;
            runtime.sleep(Duration::from_secs(60)).await;
            assert_eq!(mixed.store.stats().scrubbed_bytes, 0);
        })
        .finished();
}

#[test]
fn a_store_that_is_recycled_and_cleaned_is_never_called_damaged() {
    for seed in 0..4 {
        Simulation::new(seed)
            .run(|runtime| async move {
                let scrub = ScrubOptions { bytes_per_second: 100 << 20, tick_ms: 1, interval_ms: 5 };
                let mut mixed = Mixed::create(&runtime, StoreOptions { scrub, ..options() }).await;
                for _ in 0..6 {
                    mixed.fill(&runtime, 12).await;
                    runtime.sleep(Duration::from_millis(700)).await;
                }
                let stats = mixed.store.stats();
                assert!(stats.moved_bytes > 0 && stats.scrubbed_bytes > 2 * stats.appended_bytes, "{stats:?}");
                assert_eq!(stats.damaged_rows, 0);
                mixed.check().await;
            })
            .finished();
    }
}

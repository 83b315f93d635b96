//! Recompression: a batch gets the codec that its topic stores, between its validation and its append.
//!
//! No other step of a produce request takes milliseconds of the core, so it goes in turns, and others run between them. A
//! batch works in a seat, and there are two: for batches of common size, and for those beyond. So memory is bounded
//! whatever is sent (see [`RecompressionTools`]), and a small batch does not wait for a large one.
//!
//! Invariant: nothing is appended here; whoever holds a seat appends when it is done, in one step as everybody does.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use super::Shard;
use crate::limits::{RECOMPRESS_SMALL_BYTES_MAX, RECOMPRESS_TURN_STEPS_MAX, RECOMPRESS_TURN_US};
use crate::partition::validate::{InvalidBatch, TopicRules, ValidBatch};
use crate::protocol::compression::RecompressionTools;
use crate::runtime::Runtime;
use crate::store::notify::Bell;

/// The seats of one shard.
#[derive(Default)]
pub(super) struct Recompressors {
    small: Seat,
    large: Seat,
}

/// A place for one batch at a time.
struct Seat {
    /// `None` while the seat is taken.
    tools: Cell<Option<Box<RecompressionTools>>>,
    held_bytes: Cell<usize>,
    freed: Bell,
}

impl Default for Seat {
    fn default() -> Seat {
        Seat { tools: Cell::new(Some(Box::default())), held_bytes: Cell::new(0), freed: Bell::default() }
    }
}

/// A seat that is taken, until this is dropped.
pub(super) struct Turn<'a> {
    seat: &'a Seat,
    /// `None` only while it is dropped.
    tools: Option<Box<RecompressionTools>>,
}

impl Recompressors {
    /// Waits for the seat of a batch whose records have so many bytes, decompressed.
    pub(super) async fn turn(&self, payload_bytes: u64) -> Turn<'_> {
        let seat = if payload_bytes <= RECOMPRESS_SMALL_BYTES_MAX { &self.small } else { &self.large };
        let tools = seat.freed.until(|| seat.tools.take()).await;
        Turn { seat, tools: Some(tools) }
    }

    /// Bytes of memory that the seats hold, as of the last batch of each.
    pub(super) fn held_bytes(&self) -> usize {
        self.small.held_bytes.get() + self.large.held_bytes.get()
    }
}

impl Deref for Turn<'_> {
    type Target = RecompressionTools;

    fn deref(&self) -> &RecompressionTools {
        self.tools.as_ref().expect("a turn has its tools")
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut RecompressionTools {
        self.tools.as_mut().expect("a turn has its tools")
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut tools = self.tools.take().expect("a turn has its tools");
        tools.shed();
        self.seat.held_bytes.set(tools.held_bytes());
        self.seat.tools.set(Some(tools));
        self.seat.freed.ring();
    }
}

impl<R: Runtime> Shard<R> {
    /// Recompresses the records of a batch into the output of `tools`, with the core free for others every
    /// `RECOMPRESS_TURN_US`.
    pub(super) async fn recompress(
        &self,
        batch: &ValidBatch<'_>,
        rules: &TopicRules,
        tools: &mut RecompressionTools,
    ) -> Result<(), InvalidBatch> {
        let mut recompression = batch.recompression(rules, tools)?;
        let (mut began, mut steps) = (self.runtime.now(), 0);
        while !recompression.step()? {
            steps += 1;
            if steps == RECOMPRESS_TURN_STEPS_MAX || self.runtime.now().since_us(began) >= RECOMPRESS_TURN_US {
                self.runtime.yield_now().await;
                (began, steps) = (self.runtime.now(), 0);
            }
        }
        Ok(())
    }
}

//! How much memory answers with records hold, from before they are read until they are sent, and the bound on it.
//!
//! A fetch answer points into blocks of the log and windows of cold reads, and those stay in memory as long as it does: 16 KiB
//! that a slow reader does not take may keep a whole mebibyte. So what counts here are blocks, not bytes sent, and where
//! memory is short, records of blocks that an answer uses little of are copied. There are three kinds of room:
//!
//! - *shares*: what an answer usually takes, at most an eighth of all. Reading begins when the share is there; who comes
//!   when it is not waits in line.
//! - *small* room, for what can be copied out of the log's tail while others wait: answers that no disk and no large batch
//!   is needed for do not stand in that line.
//! - the *large* turn: a batch above a share is read by one answer at a time, beyond the bound.
//!
//! Nobody who holds one kind waits for another, and all that is waited for meanwhile is the disk and the peer, so there is
//! no deadlock. Peers that do not take their answers while others wait are let go (`server::registry`).

use std::fmt;
use std::rc::Rc;

use crate::limits::{ANSWER_SHARE_BYTES_MIN, ANSWER_SHARES, ANSWER_SMALL_BYTES};
use crate::portions::{Portion, Portions};
use crate::runtime::Buffer;
use crate::runtime::block::{Block, Slice};

/// Memory that answers may hold.
#[derive(Debug)]
pub struct AnswerMemory {
    shares: Portions,
    small: Portions,
    large: Portions,
    /// Bytes that answers own, beside the blocks that they hold. A portion only in name: nobody waits for it.
    owned: Portions,
    share_bytes: usize,
}

/// Which room an answer has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Share,
    Small,
    Large,
}

impl AnswerMemory {
    /// Nothing is held yet.
    pub fn new(bytes_max: usize) -> Rc<AnswerMemory> {
        let part = (bytes_max / ANSWER_SHARES).max(ANSWER_SMALL_BYTES);
        let shares = bytes_max.saturating_sub(part).max(ANSWER_SHARE_BYTES_MIN);
        Rc::new(AnswerMemory {
            shares: Portions::new(shares),
            small: Portions::new(part),
            large: Portions::new(1),
            owned: Portions::new(usize::MAX),
            share_bytes: part.clamp(ANSWER_SHARE_BYTES_MIN, shares),
        })
    }

    /// Bytes that one answer may take without waiting for the large turn.
    pub fn share_bytes(&self) -> usize {
        self.share_bytes
    }

    /// Bytes that answers own themselves, beside the blocks of the log that they hold.
    pub fn owned_bytes(&self) -> usize {
        self.owned.taken()
    }

    /// Bytes of room taken, blocks counted whole; the large turn's not.
    pub fn held_bytes(&self) -> usize {
        self.shares.taken() + self.small.taken()
    }

    /// True while somebody waits for what others hold.
    pub fn is_contended(&self) -> bool {
        self.shares.is_contended() || self.large.is_contended()
    }

    /// A share of `bytes` if it is there and nobody waits.
    pub fn try_share(self: &Rc<Self>, bytes: usize) -> Option<AnswerHold> {
        let bytes = self.as_share(bytes);
        self.shares.try_take(bytes).map(|portion| self.hold(Kind::Share, bytes, portion))
    }

    /// Room for an answer that is copied out of memory, if it is there.
    pub fn try_small(self: &Rc<Self>) -> Option<AnswerHold> {
        let portion = self.small.try_take(ANSWER_SMALL_BYTES)?;
        Some(self.hold(Kind::Small, ANSWER_SMALL_BYTES, portion))
    }

    /// Waits for room for `bytes`: a share, or the large turn where they are more than that.
    pub async fn room(self: &Rc<Self>, bytes: usize) -> AnswerHold {
        if bytes > self.share_bytes {
            let turn = self.large.take(1).await;
            return self.hold(Kind::Large, usize::MAX, turn);
        }
        let bytes = self.as_share(bytes);
        let portion = self.shares.take(bytes).await;
        self.hold(Kind::Share, bytes, portion)
    }

    fn as_share(&self, bytes: usize) -> usize {
        bytes.clamp(ANSWER_SHARE_BYTES_MIN, self.share_bytes)
    }

    fn hold(self: &Rc<Self>, kind: Kind, bytes_max: usize, room: Portion) -> AnswerHold {
        let owned = self.owned.try_take(0).expect("nobody waits for it");
        AnswerHold { memory: Rc::clone(self), kind, bytes_max, room, owned }
    }

    /// True when more than half of the shares are taken: what an answer pins needlessly is better copied.
    fn is_short(&self) -> bool {
        self.shares.taken() > self.shares.amount() / 2
    }
}

/// The room of one answer, until it is dropped, which is when the answer is sent.
pub struct AnswerHold {
    memory: Rc<AnswerMemory>,
    kind: Kind,
    bytes_max: usize,
    room: Portion,
    owned: Portion,
}

impl AnswerHold {
    /// Bytes of records that there is room for.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// True when the answer must come from memory, to be copied.
    pub fn is_small(&self) -> bool {
        self.kind == Kind::Small
    }

    /// Counts what the answer really holds: blocks whole and once, and bytes of its own. `records` are those of its partitions;
    /// they are copied where the room is small, or short and little of a block is wanted.
    pub fn settle<B: Buffer>(&mut self, records: &mut [&mut Vec<Slice<B>>]) {
        let is_small = self.is_small();
        if is_small || self.memory.is_short() {
            let used = used_of_blocks(records);
            for records in &mut *records {
                copy_out(records, |block| is_small || 2 * used_of(&used, block) < block.capacity());
            }
        }
        let blocks = used_of_blocks(records);
        let pinned: usize = blocks.iter().map(|(_, capacity, _)| capacity).sum();
        let owned = records.iter().flat_map(|records| records.iter()).map(owned_bytes).sum::<usize>();
        self.owned.resize(owned);
        if self.kind != Kind::Large {
            self.room.resize(pinned + owned);
        }
    }
}

/// Address of a block, its size, and the bytes of it that an answer uses; ascending by address.
type UsedBlocks = Vec<(usize, usize, usize)>;

fn address<B>(block: &Rc<Block<B>>) -> usize {
    Rc::as_ptr(block).addr()
}

fn used_of_blocks<B: Buffer>(records: &[&mut Vec<Slice<B>>]) -> UsedBlocks {
    let mut used: UsedBlocks = Vec::new();
    for slice in records.iter().flat_map(|records| records.iter()) {
        let Slice::Block { block, range } = slice else { continue };
        match used.last_mut() {
            // Slices come in the order of the log, so most of one block stand beside each other.
            Some((last, _, bytes)) if *last == address(block) => *bytes += range.len(),
            _ => used.push((address(block), block.capacity(), range.len())),
        }
    }
    used.sort_unstable();
    used.dedup_by(|(address, _, bytes), (kept, _, sum)| {
        let is_same = address == kept;
        *sum += if is_same { *bytes } else { 0 };
        is_same
    });
    used
}

fn used_of<B>(used: &UsedBlocks, block: &Rc<Block<B>>) -> usize {
    let found = used.binary_search_by_key(&address(block), |(address, _, _)| *address);
    used[found.expect("every block of the answer was looked at")].2
}

fn owned_bytes<B>(slice: &Slice<B>) -> usize {
    match slice {
        Slice::Block { .. } => 0,
        Slice::Bytes(bytes) => bytes.len(),
    }
}

/// Replaces slices of such blocks by copies; those that stand beside each other become one.
fn copy_out<B: Buffer>(records: &mut Vec<Slice<B>>, is_copied: impl Fn(&Rc<Block<B>>) -> bool) {
    let is_copied = |slice: &Slice<B>| matches!(slice, Slice::Block { block, .. } if is_copied(block));
    if !records.iter().any(is_copied) {
        return;
    }
    let all = std::mem::take(records);
    for run in all.chunk_by(|one, next| is_copied(one) && is_copied(next)) {
        if !is_copied(&run[0]) {
            records.push(run[0].clone());
            continue;
        }
        let mut copy = Vec::with_capacity(run.iter().map(Slice::len).sum());
        run.iter().for_each(|slice| copy.extend_from_slice(slice.as_slice()));
        records.push(Slice::Bytes(copy.into()));
    }
}

impl fmt::Debug for AnswerHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnswerHold({:?}, {:?})", self.kind, self.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;

    struct Memory(Vec<u8>);

    impl Buffer for Memory {
        fn as_ptr(&self) -> *const u8 {
            self.0.as_ptr()
        }
        fn bytes(&self) -> usize {
            self.0.len()
        }
        fn as_slice(&self) -> &[u8] {
            &self.0
        }
        fn as_mut_slice(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    fn block(bytes: usize, content: u8) -> Rc<Block<Memory>> {
        Rc::new(Block::new(Memory(vec![content; bytes]), bytes))
    }

    fn slice(block: &Rc<Block<Memory>>, range: std::ops::Range<usize>) -> Slice<Memory> {
        Slice::Block { block: Rc::clone(block), range }
    }

    fn asked(memory: &Rc<AnswerMemory>, bytes: usize) -> Pin<Box<dyn Future<Output = AnswerHold>>> {
        let memory = Rc::clone(memory);
        Box::pin(async move { memory.room(bytes).await })
    }

    fn poll(asking: &mut Pin<Box<dyn Future<Output = AnswerHold>>>) -> Option<AnswerHold> {
        match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(hold) => Some(hold),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_block_counts_once_and_whole_until_the_answer_is_gone() {
        let memory = AnswerMemory::new(32 * MIB);
        let (one, other) = (block(4096, 1), block(8192, 2));
        let mut first = vec![slice(&one, 0..10), slice(&one, 10..20), Slice::Bytes(vec![0; 3].into())];
        // A second partition of the same answer, whose records lie beside the first one's.
        let mut second = vec![slice(&other, 0..8000), slice(&one, 20..30)];
        let mut hold = memory.try_share(MIB).unwrap();
        assert_eq!(memory.held_bytes(), MIB);
        hold.settle(&mut [&mut first, &mut second]);
        assert_eq!(memory.held_bytes(), 4096 + 8192 + 3);
        assert_eq!(memory.owned_bytes(), 3);
        drop(hold);
        assert_eq!((memory.held_bytes(), memory.owned_bytes()), (0, 0));
    }

    #[test]
    fn where_memory_is_short_blocks_little_used_are_let_go() {
        let memory = AnswerMemory::new(8 * MIB);
        let (little, much) = (block(MIB, 1), block(MIB, 2));
        let _others: Vec<AnswerHold> = (0..4).map(|_| memory.try_share(MIB).unwrap()).collect();
        let mut hold = memory.try_share(MIB).unwrap();
        let mut records = vec![slice(&little, 0..10), slice(&little, 10..20), slice(&much, 0..800 * KIB)];
        hold.settle(&mut [&mut records]);
        assert_eq!((Rc::strong_count(&little), Rc::strong_count(&much)), (1, 2));
        assert_eq!(records.iter().map(Slice::len).collect::<Vec<_>>(), [20, 800 * KIB]);
        assert_eq!(records[0].as_slice(), [1; 20]);
        assert_eq!(memory.held_bytes(), 4 * MIB + 20 + MIB);
    }

    /// A hundred fetches of 50 MiB each found room for 32 MiB, all of them, since each took it when its answer was whole:
    /// 2.9 GiB with `--memory 128MiB`.
    #[test]
    fn a_hundred_fetches_hold_no_more_than_the_bound_and_all_get_their_turn() {
        let memory = AnswerMemory::new(32 * MIB);
        let mut waiting: Vec<_> = (0..100).map(|_| asked(&memory, memory.share_bytes().min(50 * MIB))).collect();
        let mut held = std::collections::VecDeque::new();
        let mut served = 0;
        while served < 100 {
            waiting.retain_mut(|asking| match poll(asking) {
                Some(hold) => {
                    held.push_back(hold);
                    false
                }
                None => true,
            });
            assert!(memory.held_bytes() <= 32 * MIB);
            assert!(!held.is_empty(), "nobody holds anything, yet {} wait", waiting.len());
            assert!(held.len() >= 7 || waiting.is_empty(), "room for seven, and {} have it", held.len());
            held.pop_front();
            served += 1;
        }
        assert_eq!(memory.held_bytes(), 0);
    }

    #[test]
    fn a_batch_above_a_share_is_read_alone_and_beside_shares() {
        let memory = AnswerMemory::new(8 * MIB);
        let shares: Vec<AnswerHold> = (0..7).map(|_| memory.try_share(MIB).unwrap()).collect();
        let mut large = asked(&memory, 48 * MIB);
        let large = poll(&mut large).expect("it waits for no share");
        assert_eq!(large.bytes_max(), usize::MAX);
        let mut second = asked(&memory, 2 * MIB);
        assert!(poll(&mut second).is_none(), "two are beyond the bound");
        assert!(memory.is_contended());
        drop(large);
        assert!(poll(&mut second).is_some());
        drop(shares);
    }

    #[test]
    fn small_answers_find_room_while_shares_are_waited_for() {
        let memory = AnswerMemory::new(8 * MIB);
        let _shares: Vec<AnswerHold> = (0..7).map(|_| memory.try_share(MIB).unwrap()).collect();
        let mut next = asked(&memory, MIB);
        assert!(poll(&mut next).is_none());
        assert!(memory.try_share(1).is_none());
        let mut small = memory.try_small().unwrap();
        let block = block(MIB, 7);
        let mut records = vec![slice(&block, 0..1000)];
        small.settle(&mut [&mut records]);
        assert_eq!(Rc::strong_count(&block), 1, "a small answer pins no block");
        assert_eq!(memory.held_bytes(), 7 * MIB + 1000);
        let many: Vec<AnswerHold> = std::iter::from_fn(|| memory.try_small()).collect();
        assert!(many.len() >= 14 && memory.held_bytes() <= 8 * MIB);
    }
}

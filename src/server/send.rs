//! Answers of one connection on their way out: many pieces, one system call.

use std::io::IoSlice;

use super::request_memory::{ByteCount, Counted};
use crate::api::reply::Response;
use crate::limits::SEND_PIECES_MAX;
use crate::runtime::Buffer;

/// One answer, of which a part may have gone out.
///
/// Its parts alternate: own bytes up to the first piece, that piece, own bytes up to the second …, own bytes to the end.
pub(super) struct Outgoing<B> {
    response: Response<B>,
    /// Counts the bytes that it owns itself until it is dropped. Those of the log are counted by the response's hold.
    _unsent: Counted,
    /// The part to send next.
    part: usize,
    /// Bytes of it that went out.
    offset: usize,
}

impl<B: Buffer> Outgoing<B> {
    /// An answer whose own bytes are added to `unsent` until it is dropped.
    pub(super) fn new(response: Response<B>, unsent: &ByteCount) -> Outgoing<B> {
        assert!(response.pieces.is_sorted_by_key(|piece| piece.at));
        assert!(response.pieces.last().is_none_or(|piece| piece.at <= response.bytes.len()));
        let _unsent = unsent.count(response.bytes.len());
        Outgoing { response, _unsent, part: 0, offset: 0 }
    }

    /// Bytes of the whole answer.
    pub(super) fn bytes(&self) -> usize {
        self.response.bytes.len() + self.response.pieces.iter().map(|piece| piece.slice.len()).sum::<usize>()
    }

    /// True when everything went out.
    pub(super) fn is_sent(&self) -> bool {
        self.part == self.parts()
    }

    /// Adds what is left to send, until `SEND_PIECES_MAX`.
    pub(super) fn gather<'a>(&'a self, pieces: &mut Vec<IoSlice<'a>>) {
        let mut offset = self.offset;
        for part in self.part..self.parts() {
            if pieces.len() == SEND_PIECES_MAX {
                return;
            }
            let bytes = &self.part(part)[offset..];
            offset = 0;
            if !bytes.is_empty() {
                pieces.push(IoSlice::new(bytes));
            }
        }
    }

    /// Notes that `count` bytes went out and returns how many of them belong to later answers.
    pub(super) fn advance(&mut self, mut count: usize) -> usize {
        while !self.is_sent() {
            let left = self.part(self.part).len() - self.offset;
            if count < left {
                self.offset += count;
                return 0;
            }
            count -= left;
            self.part += 1;
            self.offset = 0;
        }
        count
    }

    fn parts(&self) -> usize {
        2 * self.response.pieces.len() + 1
    }

    fn part(&self, index: usize) -> &[u8] {
        let Response { bytes, pieces, .. } = &self.response;
        if index % 2 == 1 {
            return pieces[index / 2].slice.as_slice();
        }
        let start = if index == 0 { 0 } else { pieces[index / 2 - 1].at };
        let end = pieces.get(index / 2).map_or(bytes.len(), |piece| piece.at);
        &bytes[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reply::Piece;
    use crate::runtime::block::Slice;
    use bytes::Bytes;

    /// Memory that tests need no alignment for.
    struct Plain;

    impl Buffer for Plain {
        fn as_ptr(&self) -> *const u8 {
            unreachable!("answers here hold plain bytes")
        }
        fn bytes(&self) -> usize {
            unreachable!("answers here hold plain bytes")
        }
        fn as_slice(&self) -> &[u8] {
            unreachable!("answers here hold plain bytes")
        }
        fn as_mut_slice(&mut self) -> &mut [u8] {
            unreachable!("answers here hold plain bytes")
        }
    }

    fn answer(bytes: &str, pieces: &[(usize, &'static str)]) -> Outgoing<Plain> {
        let pieces =
            pieces.iter().map(|(at, text)| Piece { at: *at, slice: Slice::Bytes(Bytes::from_static(text.as_bytes())) });
        Outgoing::new(
            Response { bytes: bytes.as_bytes().to_vec(), pieces: pieces.collect(), hold: None },
            &ByteCount::default(),
        )
    }

    /// Sends at most `step` bytes at a time and returns what arrived.
    fn sent_in_steps(mut answer: Outgoing<Plain>, step: usize) -> String {
        let mut arrived = Vec::new();
        while !answer.is_sent() {
            let mut pieces = Vec::new();
            answer.gather(&mut pieces);
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let count = all.len().min(step);
            arrived.extend_from_slice(&all[..count]);
            assert_eq!(answer.advance(count), 0);
        }
        String::from_utf8(arrived).unwrap()
    }

    #[test]
    fn pieces_go_out_in_their_places_however_short_the_writes() {
        for step in 1..12 {
            assert_eq!(
                sent_in_steps(answer("abcd", &[(0, "1"), (2, "22"), (2, "3"), (4, "444")]), step),
                "1ab223cd444"
            );
            assert_eq!(sent_in_steps(answer("abcd", &[]), step), "abcd");
            assert_eq!(sent_in_steps(answer("", &[(0, "1"), (0, ""), (0, "2")]), step), "12");
        }
    }

    #[test]
    fn bytes_beyond_an_answer_belong_to_the_next() {
        let mut first = answer("ab", &[(1, "1")]);
        assert_eq!(first.bytes(), 3);
        assert_eq!(first.advance(5), 2);
        assert!(first.is_sent());
    }

    #[test]
    fn one_send_has_at_most_the_systems_number_of_pieces() {
        let many: Vec<(usize, &'static str)> = (0..SEND_PIECES_MAX + 10).map(|_| (0, "x")).collect();
        let many = answer("", &many);
        let mut pieces = Vec::new();
        many.gather(&mut pieces);
        assert_eq!(pieces.len(), SEND_PIECES_MAX);
    }
}

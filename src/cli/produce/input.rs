//! Stdin as records: read ahead by a thread of its own, so that a quiet stdin does not hold back what was read before;
//! cut at delimiters where the records are used.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::limits::{CLIENT_INPUT_CHUNK_BYTES, CLIENT_INPUT_CHUNKS_MAX, CLIENT_RECORD_BYTES_MAX};

/// Starts to read. The chunks end with the input, or with an error.
pub(super) fn read_ahead(input: impl Read + Send + 'static) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = sync_channel(CLIENT_INPUT_CHUNKS_MAX);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || read_chunks(input, &sender))?;
    Ok(receiver)
}

fn read_chunks(mut input: impl Read, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CLIENT_INPUT_CHUNK_BYTES];
        let message = match input.read(&mut chunk) {
            Ok(0) => return,
            Ok(bytes) => {
                chunk.truncate(bytes);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_error = message.is_err();
        if sender.send(message).is_err() || is_error {
            return;
        }
    }
}

/// A record that never ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a record on stdin is longer than {CLIENT_RECORD_BYTES_MAX} bytes; is -D the right delimiter?")]
pub(crate) struct RecordTooLong;

/// Cuts bytes at a delimiter, whatever chunks they come in.
#[derive(Debug)]
pub(super) struct Splitter {
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    /// Where the first record begins that was not handed out yet.
    start: usize,
    /// Where no delimiter begins before.
    searched: usize,
}

impl Splitter {
    /// Cuts at this delimiter, which has at least one byte.
    pub(super) fn new(delimiter: Vec<u8>) -> Splitter {
        assert!(!delimiter.is_empty());
        Splitter { delimiter, buffer: Vec::new(), start: 0, searched: 0 }
    }

    /// Adds what was read. Take every whole record out before.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), RecordTooLong> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.len() + chunk.len() > CLIENT_RECORD_BYTES_MAX + CLIENT_INPUT_CHUNK_BYTES {
            return Err(RecordTooLong);
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole record, without its delimiter.
    pub(super) fn next_record(&mut self) -> Option<&[u8]> {
        let found = find(&self.buffer[self.searched..], &self.delimiter);
        let Some(at) = found else {
            // All but its last byte of a delimiter may be there already.
            self.searched = (self.buffer.len() + 1).saturating_sub(self.delimiter.len()).max(self.start);
            return None;
        };
        let end = self.searched + at;
        let record = self.start..end;
        self.start = end + self.delimiter.len();
        self.searched = self.start;
        Some(self.slice(record))
    }

    /// What stands behind the last delimiter, once the input has ended.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }
}

/// Where `needle`, which is not empty, first stands in `haystack`.
pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0];
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&byte| byte == first) {
        let at = from + at;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &[u8], chunk_bytes: usize, delimiter: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = Splitter::new(delimiter.to_vec());
        let mut records = Vec::new();
        for chunk in input.chunks(chunk_bytes) {
            splitter.push(chunk).unwrap();
            while let Some(record) = splitter.next_record() {
                records.push(record.to_vec());
            }
        }
        (records, splitter.rest().to_vec())
    }

    #[test]
    fn records_do_not_depend_on_how_the_bytes_arrive() {
        for chunk_bytes in 1..12 {
            let (records, rest) = split(b"one\n\ntwo\nthree", chunk_bytes, b"\n");
            assert_eq!(records, [&b"one"[..], b"", b"two"]);
            assert_eq!(rest, b"three");
            let (records, rest) = split(b"a-|b|--|c--", chunk_bytes, b"--|");
            assert_eq!(records, [&b"a-|b|"[..]]);
            assert_eq!(rest, b"c--");
            let (records, rest) = split(b"xxxxx", chunk_bytes, b"xx");
            assert_eq!((records.len(), &rest[..]), (2, &b"x"[..]));
        }
    }

    #[test]
    fn a_record_without_end_is_refused_before_it_fills_memory() {
        let mut splitter = Splitter::new(b"\n".to_vec());
        let chunk = vec![b'x'; CLIENT_INPUT_CHUNK_BYTES];
        let mut held = 0;
        let refused = loop {
            assert!(splitter.next_record().is_none());
            if let Err(error) = splitter.push(&chunk) {
                break error;
            }
            held += chunk.len();
        };
        assert_eq!(refused, RecordTooLong);
        assert!(held <= CLIENT_RECORD_BYTES_MAX + CLIENT_INPUT_CHUNK_BYTES);
    }

    #[test]
    fn reading_ahead_hands_on_every_byte_and_then_ends() {
        let input: Vec<u8> = (0..200_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let chunks = read_ahead(io::Cursor::new(input.clone())).unwrap();
        let read: Vec<u8> = chunks.iter().flat_map(Result::unwrap).collect();
        assert!(read == input);
    }
}

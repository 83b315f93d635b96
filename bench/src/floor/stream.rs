//! Produce requests as a stream of bytes: batches are checked and handed on in the pieces in which they arrive.
//!
//! Knows version 7 of Produce with one topic and no transactional id, which is what the generator sends.

/// Bytes of a request up to the length of its client id.
const START_BYTES: usize = 14;
/// Bytes from the end of the client id to the length of the topic's name.
const SETTINGS_BYTES: usize = 14;
/// Bytes of a batch before what its checksum covers.
const UNCOVERED_BYTES: usize = 21;
/// Longest part that is put together before it is read.
const PART_BYTES_MAX: usize = 512;

/// What the next bytes are.
#[derive(Clone, Copy)]
enum Part {
    Start,
    Settings {
        client_id: usize,
    },
    Topic {
        name: usize,
    },
    Partition,
    BatchHead,
    /// How much of what the checksum covers is still to come.
    Covered {
        left: usize,
    },
}

/// A request that arrived whole.
pub(super) struct Arrived {
    correlation_id: i32,
    topic: Vec<u8>,
    partitions: Vec<i32>,
}

/// One connection's requests.
pub(super) struct ProduceStream {
    part: Part,
    pending: Vec<u8>,
    correlation_id: i32,
    topic: Vec<u8>,
    partitions: Vec<i32>,
    partitions_left: i32,
    batch_bytes: usize,
    crc_declared: u32,
    crc: u32,
}

impl ProduceStream {
    pub(super) fn new() -> ProduceStream {
        ProduceStream {
            part: Part::Start,
            pending: Vec::with_capacity(PART_BYTES_MAX),
            correlation_id: 0,
            topic: Vec::new(),
            partitions: Vec::new(),
            partitions_left: 0,
            batch_bytes: 0,
            crc_declared: 0,
            crc: 0,
        }
    }

    /// Takes the next bytes; hands the bytes of batches to `append` and requests that ended with them to `arrived`.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut append: impl FnMut(&[u8]),
        mut arrived: impl FnMut(Arrived),
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            if let Part::Covered { left } = self.part {
                let (now, later) = bytes.split_at(bytes.len().min(left));
                self.crc = crc32c::crc32c_append(self.crc, now);
                append(now);
                bytes = later;
                let left = left - now.len();
                self.part = Part::Covered { left };
                if left == 0 {
                    self.end_batch(&mut arrived)?;
                }
                continue;
            }
            let wanted = self.part_bytes();
            if wanted > PART_BYTES_MAX {
                return Err(format!("a part of {wanted} bytes"));
            }
            let count = bytes.len().min(wanted - self.pending.len());
            self.pending.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.pending.len() == wanted {
                self.read_part(&mut append)?;
                self.pending.clear();
            }
        }
        Ok(())
    }

    fn part_bytes(&self) -> usize {
        match self.part {
            Part::Start => START_BYTES,
            Part::Settings { client_id } => client_id + SETTINGS_BYTES,
            Part::Topic { name } => name + 4,
            Part::Partition => 8,
            Part::BatchHead => UNCOVERED_BYTES,
            Part::Covered { left } => left,
        }
    }

    fn read_part(&mut self, append: &mut impl FnMut(&[u8])) -> Result<(), String> {
        let part = &self.pending[..];
        self.part = match self.part {
            Part::Start => {
                if (i16_at(part, 4), i16_at(part, 6)) != (0, 7) {
                    return Err("only Produce v7 is understood".to_owned());
                }
                self.correlation_id = i32_at(part, 8);
                Part::Settings { client_id: usize::try_from(i16_at(part, 12)).unwrap_or(0) }
            }
            Part::Settings { client_id } => {
                let settings = &part[client_id..];
                if i16_at(settings, 0) != -1 || i16_at(settings, 2) != 1 || i32_at(settings, 8) != 1 {
                    return Err("only acks=1 to one topic is understood".to_owned());
                }
                Part::Topic { name: usize::try_from(i16_at(settings, 12)).unwrap_or(0) }
            }
            Part::Topic { name } => {
                self.topic.clear();
                self.topic.extend_from_slice(&part[..name]);
                self.partitions_left = i32_at(part, name);
                Part::Partition
            }
            Part::Partition => {
                self.partitions.push(i32_at(part, 0));
                self.batch_bytes = usize::try_from(i32_at(part, 4)).map_err(|_| "a null batch")?;
                Part::BatchHead
            }
            Part::BatchHead => {
                if part[16] != 2 {
                    return Err(format!("magic {}", part[16]));
                }
                self.crc_declared = u32::from_be_bytes(*part[17..].first_chunk().expect("21 bytes"));
                self.crc = 0;
                append(part);
                let left = self.batch_bytes.checked_sub(UNCOVERED_BYTES).filter(|left| *left > 0);
                Part::Covered { left: left.ok_or("half a batch")? }
            }
            Part::Covered { .. } => unreachable!("handled as it arrives"),
        };
        Ok(())
    }

    fn end_batch(&mut self, arrived: &mut impl FnMut(Arrived)) -> Result<(), String> {
        if self.crc != self.crc_declared {
            return Err(format!("CRC is {:08x}, the batch declares {:08x}", self.crc, self.crc_declared));
        }
        self.partitions_left -= 1;
        self.part = Part::Partition;
        if self.partitions_left == 0 {
            self.part = Part::Start;
            arrived(Arrived {
                correlation_id: self.correlation_id,
                topic: self.topic.clone(),
                partitions: std::mem::take(&mut self.partitions),
            });
        }
        Ok(())
    }
}

impl Arrived {
    /// Appends the answer: every batch is in, at offset 0.
    pub(super) fn answer(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.correlation_id.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
        out.extend_from_slice(&i16::try_from(self.topic.len()).expect("it came with 16 bits").to_be_bytes());
        out.extend_from_slice(&self.topic);
        out.extend_from_slice(&i32::try_from(self.partitions.len()).expect("they came with 32 bits").to_be_bytes());
        for partition in &self.partitions {
            out.extend_from_slice(&partition.to_be_bytes());
            out.extend_from_slice(&0_i16.to_be_bytes());
            out.extend_from_slice(&0_i64.to_be_bytes());
            out.extend_from_slice(&(-1_i64).to_be_bytes());
            out.extend_from_slice(&0_i64.to_be_bytes());
        }
        out.extend_from_slice(&0_i32.to_be_bytes());
        let length = i32::try_from(out.len() - start - 4).expect("an answer is small");
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(*bytes[at..].first_chunk().expect("the part is whole"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(*bytes[at..].first_chunk().expect("the part is whole"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::produce_frame;
    use corelane::protocol::messages::produce::ProduceResponse;
    use corelane::protocol::wire::Reader;

    #[test]
    fn requests_come_out_whole_in_whatever_pieces_they_arrive() {
        let batch = crate::load::batch(3000, 500);
        let frame = produce_frame("topic", &[4, 5], &batch, 1);
        let twice = [&frame[..], &frame[..]].concat();
        for piece in [1, 7, 100, 4096, twice.len()] {
            let mut stream = ProduceStream::new();
            let (mut log, mut out) = (Vec::new(), Vec::new());
            for bytes in twice.chunks(piece) {
                stream.feed(bytes, |b| log.extend_from_slice(b), |arrived| arrived.answer(&mut out)).unwrap();
            }
            assert_eq!(log, batch.repeat(4), "pieces of {piece}");
            let answer = &out[..out.len() / 2];
            let response = ProduceResponse::decode(&mut Reader::new(&answer[8..]), 7).unwrap();
            let partitions = &response.responses[0].partition_responses;
            assert_eq!(partitions.iter().map(|p| (p.index, p.error_code)).collect::<Vec<_>>(), [(4, 0), (5, 0)]);
        }
    }

    #[test]
    fn a_changed_byte_is_found() {
        let mut frame = produce_frame("topic", &[0], &crate::load::batch(3000, 500), 1);
        let middle = frame.len() - 100;
        frame[middle] ^= 1;
        assert!(ProduceStream::new().feed(&frame, |_| {}, |_| {}).unwrap_err().contains("CRC"));
    }
}

//! The load: producers on one CPU, blocking, so that they cost the server nothing but its work.

use std::error::Error;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::compression::Codec;
use corelane::protocol::frame::request_frame;
use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::record_batch::BatchBuilder;
use corelane::protocol::wire::Records;
use corelane::types::TimestampMs;
use hdrhistogram::Histogram;

use crate::client::{CLIENT_ID, answer_body, debug, read_frame};
use crate::report;

/// Version of Produce that the load speaks; the floors understand no other.
pub(crate) const PRODUCE_VERSION: i16 = 7;

/// An uncompressed batch of about `batch_bytes`, never more, of records whose values have `record_bytes`.
pub(crate) fn batch(batch_bytes: usize, record_bytes: usize) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_millis();
    let now = TimestampMs::new(i64::try_from(now).expect("64 bits of milliseconds"));
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut value = |bytes: usize| -> Vec<u8> {
        let next = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(bytes).collect()
    };
    let mut builder = BatchBuilder::new(Codec::None);
    // A record adds at most 20 bytes to its value, a batch 61 to its records. The last record fills what is left.
    let count = (batch_bytes.saturating_sub(61) / (record_bytes + 20)).max(1);
    for _ in 1..count {
        builder.append(now, None, Some(&value(record_bytes)), &[]);
    }
    let others = if count > 1 { builder.build().len() } else { 61 };
    builder.append(now, None, Some(&value(batch_bytes.saturating_sub(others + 20))), &[]);
    builder.build()
}

/// A whole Produce request with the same batch for each partition.
pub(crate) fn produce_frame(topic: &str, partitions: &[i32], batch: &[u8], acks: i16) -> Vec<u8> {
    let partition_data =
        partitions.iter().map(|index| PartitionProduceData { index: *index, records: Records::Bytes(batch) }).collect();
    let topic = TopicProduceData { name: topic.into(), partition_data, ..TopicProduceData::default() };
    let request = ProduceRequest { transactional_id: None, acks, timeout_ms: 30_000, topic_data: vec![topic] };
    request_frame(1, Some(CLIENT_ID), PRODUCE_VERSION, &request).bytes
}

/// Fails with the first error code of an answer.
pub(crate) fn check_produced(frame: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut body = answer_body(frame, ApiKey::Produce, PRODUCE_VERSION)?;
    let response = ProduceResponse::decode(&mut body, PRODUCE_VERSION).map_err(debug)?;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.map(|partition| (partition.index, partition.error_code)).find(|(_, code)| *code != 0) {
        None => Ok(()),
        Some((index, code)) => Err(format!("produce to partition {index}: error {code}").into()),
    }
}

/// A closed loop on one connection: always `window` requests unanswered.
pub(crate) struct Saturation {
    socket: TcpStream,
    acknowledged: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

impl Saturation {
    /// Sends `frame` over and over; `batch_bytes` of it count.
    pub(crate) fn start(
        address: SocketAddr,
        frame: Arc<Vec<u8>>,
        batch_bytes: u64,
        window: usize,
        cpu: Option<usize>,
    ) -> Result<Saturation, Box<dyn Error>> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let (acknowledged, stopping) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (sent, to_answer): (SyncSender<()>, Receiver<()>) = sync_channel(window - 1);
        let (mut writer, mut reader) = (socket.try_clone()?, socket.try_clone()?);
        let write = {
            let stopping = Arc::clone(&stopping);
            move || -> Result<(), String> {
                pin(cpu);
                while !stopping.load(Ordering::Relaxed) {
                    // The channel holds all but the one that the reader waits for.
                    if sent.send(()).is_err() {
                        return Ok(());
                    }
                    if let Err(error) = writer.write_all(&frame) {
                        return if stopping.load(Ordering::Relaxed) { Ok(()) } else { Err(error.to_string()) };
                    }
                }
                Ok(())
            }
        };
        let read = {
            let (acknowledged, stopping) = (Arc::clone(&acknowledged), Arc::clone(&stopping));
            move || -> Result<(), String> {
                pin(cpu);
                let mut answer = Vec::new();
                while to_answer.recv().is_ok() {
                    if let Err(error) = read_frame(&mut reader, &mut answer) {
                        return if stopping.load(Ordering::Relaxed) { Ok(()) } else { Err(error.to_string()) };
                    }
                    check_produced(&answer).map_err(|error| error.to_string())?;
                    acknowledged.fetch_add(batch_bytes, Ordering::Relaxed);
                }
                Ok(())
            }
        };
        let threads = vec![std::thread::spawn(write), std::thread::spawn(read)];
        Ok(Saturation { socket, acknowledged, stopping, threads })
    }

    /// Bytes of batches acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends it; reports what went wrong meanwhile.
    pub(crate) fn stop(self) -> Result<(), Box<dyn Error>> {
        self.stopping.store(true, Ordering::Relaxed);
        // The requests on their way are of no interest any more; a server that hung up already is none either.
        let _ = self.socket.shutdown(Shutdown::Both);
        for thread in self.threads {
            thread.join().map_err(|_| "a thread of the load panicked")??;
        }
        Ok(())
    }
}

/// Keeps the calling thread on one CPU, if one is given.
pub(crate) fn pin(cpu: Option<usize>) {
    if let Some(id) = cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

/// Sends each of `frames` once, with `window` requests unanswered.
pub(crate) fn send_all<'a>(
    address: SocketAddr,
    frames: impl Iterator<Item = &'a [u8]>,
    window: usize,
) -> Result<(), Box<dyn Error>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let (mut answer, mut unanswered) = (Vec::new(), 0);
    for frame in frames {
        if unanswered == window {
            read_frame(&mut socket, &mut answer)?;
            check_produced(&answer)?;
            unanswered -= 1;
        }
        socket.write_all(frame)?;
        unanswered += 1;
    }
    for _ in 0..unanswered {
        read_frame(&mut socket, &mut answer)?;
        check_produced(&answer)?;
    }
    Ok(())
}

/// An open loop on one connection: a request every `interval`, whatever became of those before.
pub(crate) struct OpenLoop {
    writer: JoinHandle<Result<(), String>>,
    reader: JoinHandle<Result<Histogram<u64>, String>>,
}

impl OpenLoop {
    /// Sends `count` of `frames`, in turn, the first at `began`; latencies count from the moment a request was due, the
    /// first `warm_up` of them not at all.
    pub(crate) fn start(
        address: SocketAddr,
        frames: Vec<Vec<u8>>,
        began: Instant,
        interval: Duration,
        count: u32,
        warm_up: u32,
        cpu: Option<usize>,
    ) -> Result<OpenLoop, Box<dyn Error>> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut answers = socket.try_clone()?;
        answers.set_read_timeout(Some(Duration::from_secs(30)))?;
        let writer = move || -> Result<(), String> {
            pin(cpu);
            for (index, frame) in (0..count).zip(frames.iter().cycle()) {
                let due = began + interval * index;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                socket.write_all(frame).map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let reader = move || -> Result<Histogram<u64>, String> {
            pin(cpu);
            let mut histogram = report::latencies();
            let mut answer = Vec::new();
            for index in 0..count {
                read_frame(&mut answers, &mut answer).map_err(|error| error.to_string())?;
                let latency = (began + interval * index).elapsed();
                check_produced(&answer).map_err(|error| error.to_string())?;
                if index >= warm_up {
                    report::record(&mut histogram, latency);
                }
            }
            Ok(histogram)
        };
        Ok(OpenLoop { writer: std::thread::spawn(writer), reader: std::thread::spawn(reader) })
    }

    /// Waits for the last answer and gives the latencies.
    pub(crate) fn finish(self) -> Result<Histogram<u64>, Box<dyn Error>> {
        self.writer.join().map_err(|_| "the writer panicked")??;
        Ok(self.reader.join().map_err(|_| "the reader panicked")??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_nearly_as_large_as_asked() {
        for (bytes, record) in [(16_384, 1024), (16_384, 100), (256, 100), (1_000_000, 1024)] {
            let built = batch(bytes, record).len();
            assert!(built <= bytes && built + 20 > bytes, "{built} of {bytes}");
        }
    }
}

//! Producers of records of several lifetimes: one topic for each, with its share of the bytes.

use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::{Client, read_frame};
use crate::load::{batch, check_produced, pin, produce_frame};
use crate::report::{self, float};

/// Keeps all of the one record that it gets every second.
pub(crate) const ETERNAL: &str = "eternal";
const BATCH_BYTES: usize = 256 * 1024;
const RECORD_BYTES: usize = 1024;

/// What is sent.
#[derive(Clone)]
pub(crate) struct Workload {
    /// MB per second of all connections; without, as much as is answered.
    pub(crate) rate: Option<f64>,
    /// Shares of it in percent, with the seconds that each is kept.
    pub(crate) mix: Vec<(u32, u32)>,
    /// Partitions of each topic.
    pub(crate) partitions: i32,
}

/// The topic of a lifetime.
pub(crate) fn topic(index: usize) -> String {
    format!("mixed-{index}")
}

/// Creates the topics.
pub(crate) fn create_topics(address: SocketAddr, workload: &Workload) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(address)?;
    let stamped = ("message.timestamp.type", "LogAppendTime");
    client.create_topic(ETERNAL, 1, &[("retention.ms", "-1"), stamped])?;
    for (index, (_, kept)) in workload.mix.iter().enumerate() {
        let retention_ms = (u64::from(*kept) * 1000).to_string();
        client.create_topic(&topic(index), workload.partitions, &[("retention.ms", &retention_ms), stamped])?;
    }
    Ok(())
}

/// Connections that send until they are stopped, each with one request unanswered.
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<u64, String>>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// Bytes of batches that were answered.
    acknowledged: AtomicU64,
    /// From sending to the answer, since they were taken last.
    latencies: Mutex<Option<Histogram<u64>>>,
}

impl Load {
    /// Starts so many connections, all on one CPU.
    pub(crate) fn start(address: SocketAddr, workload: &Workload, connections: u32, cpu: usize) -> Load {
        let shared = Arc::new(Shared::default());
        let start = |number: u32| {
            let (shared, workload) = (Arc::clone(&shared), workload.clone());
            std::thread::spawn(move || {
                pin(Some(cpu));
                send(address, &workload, &shared, number, connections).map_err(|error| error.to_string())
            })
        };
        let threads = (0..connections).map(start).collect();
        Load { shared, threads }
    }

    /// Bytes of batches that were answered so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Latencies since they were taken last.
    pub(crate) fn take_latencies(&self) -> Histogram<u64> {
        let mut latencies = self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.take().unwrap_or_else(report::latencies)
    }

    /// Whether a connection failed; `stop` says why.
    pub(crate) fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends it. Gives how many eternal records were answered.
    pub(crate) fn stop(self) -> Result<u64, Box<dyn Error>> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut eternal = 0;
        for thread in self.threads {
            eternal += thread.join().map_err(|_| "a thread of the load panicked")??;
        }
        Ok(eternal)
    }
}

/// One connection. The first sends the eternal records, too; gives how many.
fn send(
    address: SocketAddr,
    workload: &Workload,
    shared: &Shared,
    number: u32,
    connections: u32,
) -> Result<u64, Box<dyn Error>> {
    let mut stream = Client::connect(address)?.into_stream();
    let content = batch(BATCH_BYTES, RECORD_BYTES);
    let eternal_frame = produce_frame(ETERNAL, &[0], &batch(200, 100), 1);
    let frames: Vec<Vec<Vec<u8>>> = (0..workload.mix.len())
        .map(|index| (0..workload.partitions).map(|of| produce_frame(&topic(index), &[of], &content, 1)).collect())
        .collect();
    let batch_bytes = u64::try_from(content.len())?;
    let per_second = workload.rate.map(|rate| rate * 1e6 / float(batch_bytes) / f64::from(connections));
    let (mut sent, mut eternal) = (vec![0_u64; frames.len()], 0);
    let began = Instant::now();
    while !shared.stopping.load(Ordering::Relaxed) {
        let elapsed = began.elapsed();
        if number == 0 && elapsed.as_secs() >= eternal {
            ask(&mut stream, &eternal_frame)?;
            eternal += 1;
        }
        let all: u64 = sent.iter().sum();
        let due = per_second.map_or(float(all) + 1.0, |rate| elapsed.as_secs_f64() * rate);
        let mut is_late = false;
        for (index, (share, _)) in workload.mix.iter().enumerate() {
            if float(sent[index]) < due * f64::from(*share) / 100.0 {
                // Connections begin at different partitions.
                let frame = usize::try_from(sent[index] + u64::from(number))? % frames[index].len();
                let asked = Instant::now();
                ask(&mut stream, &frames[index][frame])?;
                let latency = asked.elapsed();
                shared.acknowledged.fetch_add(batch_bytes, Ordering::Relaxed);
                let mut latencies = shared.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                report::record(latencies.get_or_insert_with(report::latencies), latency);
                drop(latencies);
                sent[index] += 1;
                is_late = true;
            }
        }
        if !is_late {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(eternal)
}

fn ask(stream: &mut TcpStream, frame: &[u8]) -> Result<(), Box<dyn Error>> {
    stream.write_all(frame)?;
    let mut answer = Vec::new();
    read_frame(stream, &mut answer)?;
    check_produced(&answer)
}

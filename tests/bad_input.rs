//! What sockets may bring to the real process: half requests, absurd lengths, rubbish, silence, one byte at a time. It
//! goes on, its memory stays where it was, and a good client is served meanwhile.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Random;
use common::broker::{Broker, Settings};

/// An answer that takes longer has failed: a debug build on busy cores.
const ANSWER_SECONDS_MAX: u64 = 20;
/// How much the process may grow over all of this, in bytes. Measured: 4 MB, with 2,000 connections and 10 GB announced.
const GROWTH_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Connections that say nothing, at most; fewer where the process may open fewer files.
const SILENT_MAX: usize = 2000;

#[test]
fn bad_peers_cost_others_nothing() {
    let mut broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    if !broker.is_corelane() {
        eprintln!("the bounds are Corelane's own");
        return;
    }
    let address = broker.bootstrap();
    let seed = Random::fresh_seed();
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    // What every life reaches is no growth.
    for _ in 0..20 {
        rubbish(&address, &mut random);
    }
    let before = memory_bytes(&broker);
    let is_over = AtomicBool::new(false);
    let served = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| be_good(&address, &is_over, &served));
        let trouble = [
            ("absurd lengths", absurd_lengths as fn(&str, &mut Random)),
            ("half requests", half_requests),
            ("huge announcements", huge_announcements),
            ("one byte at a time", one_byte_at_a_time),
            ("rubbish", |address, random| (0..200).for_each(|_| rubbish(address, random))),
            ("silence", silence),
            ("answers that nobody reads", unread_answers),
        ];
        // Ends the good client also when something fails.
        let _over = SetOnDrop(&is_over);
        for (name, make) in trouble {
            let before = served.load(Ordering::SeqCst);
            make(&address, &mut random);
            let deadline = Instant::now() + Duration::from_secs(ANSWER_SECONDS_MAX);
            while served.load(Ordering::SeqCst) < before + 3 {
                assert!(Instant::now() < deadline, "the good client is not served during {name}, seed {seed}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    assert!(broker.is_running(), "the process ended, seed {seed}");
    let after = memory_bytes(&broker);
    let grown = after.saturating_sub(before);
    eprintln!("{before} bytes of memory before, {after} after");
    assert!(grown <= GROWTH_BYTES_MAX, "{before} bytes grew to {after}, seed {seed}");
    let log = broker.log();
    assert!(!log.contains("panicked"), "{log}");
    // At most a line a second for each cause, so that a peer cannot fill a disk.
    assert!(log.lines().count() < 1000, "{} lines of log", log.lines().count());
    assert!(broker.stop().success());
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// ApiVersions 0: the shortest question there is.
fn question(correlation_id: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 10, 0, 18, 0, 0];
    frame.extend_from_slice(&correlation_id.to_be_bytes());
    frame.extend_from_slice(&[0xff, 0xff]);
    frame
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX))).unwrap();
    stream
}

/// Asks and reads the whole answer.
fn ask(stream: &mut TcpStream, correlation_id: u32) -> std::io::Result<()> {
    stream.write_all(&question(correlation_id))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer[..4], correlation_id.to_be_bytes());
    Ok(())
}

/// A client that behaves: old connections are served, and new ones.
fn be_good(address: &str, is_over: &AtomicBool, served: &AtomicU64) {
    let mut old = connect(address);
    let mut correlation_id = 0;
    while !is_over.load(Ordering::SeqCst) {
        correlation_id += 1;
        ask(&mut old, correlation_id).expect("the good client keeps its connection");
        ask(&mut connect(address), correlation_id).expect("a new good client is served");
        served.fetch_add(1, Ordering::SeqCst);
    }
}

/// Reads until the peer closes; true when it did.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        }
    }
}

/// Lengths that no request has, and frames that hold no request, close the connection.
fn absurd_lengths(address: &str, _: &mut Random) {
    for length in [-1, i32::MIN, i32::MAX, 0, 100 * 1024 * 1024 + 1] {
        let mut stream = connect(address);
        stream.write_all(&length.to_be_bytes()).unwrap();
        assert!(is_closed(&mut stream), "a length of {length} was taken");
    }
    for body in [&b"\0"[..], b"\0\x12", b"\x7f\xff\0\0\0\0\0\x01\xff\xff", b"\0\x03\0\x63\0\0\0\x01\xff\xff"] {
        let mut stream = connect(address);
        stream.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(body).unwrap();
        assert!(is_closed(&mut stream), "{body:?} was taken");
    }
}

/// Parts of requests and a hang-up, in both ways: closed, and closed for writing only.
fn half_requests(address: &str, random: &mut Random) {
    for round in 0..100 {
        let frame = question(round);
        let cut = usize::try_from(random.below(u64::try_from(frame.len()).unwrap())).unwrap();
        let mut stream = connect(address);
        stream.write_all(&frame[..cut]).unwrap();
        if random.below(2) == 0 {
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(is_closed(&mut stream), "half a request keeps its connection");
        }
    }
}

/// The greatest request there may be, announced by many, with little behind it.
fn huge_announcements(address: &str, random: &mut Random) {
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(address);
        stream.write_all(&(100 * 1024 * 1024_i32).to_be_bytes()).unwrap();
        stream.write_all(&vec![0; usize::try_from(random.below(4096)).unwrap()]).unwrap();
        streams.push(stream);
    }
    // While they are all there, the good client is asked again.
    std::thread::sleep(Duration::from_millis(300));
    ask(&mut connect(address), 1).expect("announcements keep nobody out");
}

/// A whole request that comes byte by byte is answered.
fn one_byte_at_a_time(address: &str, _: &mut Random) {
    let mut streams: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    streams.iter().for_each(|stream| stream.set_nodelay(true).unwrap());
    for byte in question(7) {
        for stream in &mut streams {
            stream.write_all(&[byte]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for stream in &mut streams {
        let mut start = [0; 8];
        stream.read_exact(&mut start).expect("a slow request is answered");
        assert_eq!(start[4..], 7_u32.to_be_bytes());
    }
}

/// Good questions in a pipeline, then rubbish behind some header that looks right.
fn rubbish(address: &str, random: &mut Random) {
    let mut stream = connect(address);
    let mut bytes = Vec::new();
    for correlation_id in 0..u32::try_from(random.below(30)).unwrap() {
        bytes.extend(question(correlation_id));
    }
    for _ in 0..random.below(4) {
        let body: Vec<u8> = (0..random.below(300)).map(|_| random.next().to_le_bytes()[0]).collect();
        let api_key = u16::try_from(random.below(70)).unwrap();
        let version = u16::try_from(random.below(14)).unwrap();
        if random.below(4) > 0 {
            bytes.extend_from_slice(&u32::try_from(body.len() + 8).unwrap().to_be_bytes());
            bytes.extend_from_slice(&api_key.to_be_bytes());
            bytes.extend_from_slice(&version.to_be_bytes());
            bytes.extend_from_slice(&[0, 0, 0, 1]);
        }
        bytes.extend_from_slice(&body);
    }
    // It may close before it has read everything.
    let _ = stream.write_all(&bytes);
    if random.below(2) == 0 {
        let _ = stream.shutdown(Shutdown::Write);
        let mut sink = Vec::new();
        let _ = stream.take(1 << 20).read_to_end(&mut sink);
    }
}

/// Thousands of connections that say nothing; then one of them does.
fn silence(address: &str, _: &mut Random) {
    let mut streams = Vec::new();
    let files_max = files_max().saturating_sub(100);
    while streams.len() < SILENT_MAX.min(files_max) {
        streams.push(connect(address));
    }
    ask(&mut connect(address), 1).expect("silent connections keep nobody out");
    let middle = streams.len() / 2;
    ask(&mut streams[middle], 2).expect("a silent connection may speak");
}

/// Questions without end from a peer that takes no answers: TCP slows it, memory does not grow.
fn unread_answers(address: &str, _: &mut Random) {
    let mut stream = connect(address);
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let questions: Vec<u8> = (0..1000).flat_map(question).collect();
    let mut sent = 0_usize;
    while sent < 64 * 1024 * 1024 && stream.write_all(&questions).is_ok() {
        sent += questions.len();
    }
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes of questions were taken and no answer read");
}

/// Files that this process may open.
fn files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(SILENT_MAX)
}

/// Memory of the broker that is not shared with files.
fn memory_bytes(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

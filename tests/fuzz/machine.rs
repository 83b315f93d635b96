//! A whole broker in simulation: every shard wired as `server::start` wires it, asked through `Api::handle`.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use corelane::api::reply::{LocalFuture, Reply, Response, Service};
use corelane::api::{Api, Peer};
use corelane::broker::controller::{NodeStart, register_nodes};
use corelane::broker::metadata_log::{MetadataLog, SnapshotOptions};
use corelane::broker::{Broker, Lanes, inbox};
use corelane::cluster::image::MetadataImage;
use corelane::cluster::view::Advertise;
use corelane::config::BrokerConfig;
use corelane::metrics::ShardMetrics;
use corelane::runtime::Runtime;
use corelane::shard::Shard;
use corelane::shard::mesh::Lane;
use corelane::shard::recovery::Recovered;
use corelane::simulation::{SimulatedBuffer, SimulatedRuntime};
use corelane::store::{Store, StoreOptions};
use corelane::types::{ConnectionId, NodeId, ShardId};

/// Memory of each shard's store, in bytes.
pub(crate) const STORE_MEMORY_BYTES: u64 = 4 * 1024 * 1024;

/// One process with its shards.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) runtime: SimulatedRuntime,
    pub(crate) brokers: Vec<Rc<Broker<SimulatedRuntime>>>,
    apis: Vec<Rc<Api<SimulatedRuntime>>>,
}

impl Machine {
    /// Starts a process of `shards` over an empty disk.
    pub(crate) async fn start(runtime: &SimulatedRuntime, shards: u16, advertise: Advertise) -> Machine {
        let lanes: Lanes = (0..shards).map(|_| Lane::default()).collect();
        let config = Arc::new(BrokerConfig::from_settings([("num.partitions", "2")]).unwrap());
        let mut brokers = Vec::new();
        // The controller comes last, since it waits for the others to take in its image.
        for id in (0..shards).rev().map(ShardId::new) {
            let mut recovered = Recovered::default();
            let store =
                Store::open(runtime.clone(), store_options(id), &mut recovered).await.expect("the disk is empty");
            let empty = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ");
            let shard = Shard::new(
                id,
                runtime.clone(),
                store,
                recovered,
                Arc::new(empty.clone()),
                Arc::clone(&config),
                ShardMetrics::new(id),
            );
            if id != ShardId::CONTROLLER {
                let broker = Broker::new(Rc::clone(&shard), advertise, Arc::clone(&lanes), None);
                inbox::start(&broker);
                shard.start();
                brokers.insert(0, broker);
                continue;
            }
            let opened = MetadataLog::open(Rc::clone(&shard), Arc::clone(&lanes), empty, SnapshotOptions::default());
            let log = opened.await.unwrap();
            let broker = Broker::new(Rc::clone(&shard), advertise, Arc::clone(&lanes), Some(Rc::clone(&log)));
            inbox::start(&broker);
            shard.start();
            let nodes: Vec<NodeStart> = (0..shards).map(node).collect();
            let records = register_nodes(&log.image(), &nodes, &mut || runtime.random());
            log.begin(&records).await.unwrap();
            log.start();
            brokers.insert(0, broker);
        }
        for broker in &brokers[1..] {
            broker.first_image().await.unwrap();
        }
        let apis = brokers.iter().map(|broker| Api::new(Rc::clone(broker))).collect();
        Machine { runtime: runtime.clone(), brokers, apis }
    }

    /// The cluster as the controller knows it.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.brokers[0].shard.image()
    }

    /// Hands a frame without its length to one shard. The future ends when the request was applied.
    pub(crate) fn handle(&self, shard: usize, frame: &[u8]) -> LocalFuture<Reply<SimulatedBuffer>> {
        Rc::clone(&self.apis[shard])
            .handle(Rc::new(Peer::new([127, 0, 0, 1].into(), ConnectionId::NONE)), Bytes::copy_from_slice(frame))
    }

    /// Hands over a good request and waits for its answer: the whole frame without its length.
    pub(crate) async fn ask(&self, shard: usize, frame: &[u8]) -> Vec<u8> {
        let response = match self.handle(shard, frame).await {
            Reply::Now(response) => response,
            Reply::Later(answer) => answer.await.expect("a good request is answered"),
            Reply::Nothing => panic!("a good request got nothing"),
            Reply::Close => panic!("a good request closed its connection"),
        };
        assembled(&response)
    }

    /// What `future` gives, or `None` when it takes longer than `limit_ms` of virtual time.
    pub(crate) async fn within<T>(&self, limit_ms: u64, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut limit = pin!(self.runtime.sleep(Duration::from_millis(limit_ms)));
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            limit.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

/// The frame as it goes out, without its length, which must say how long that is.
pub(crate) fn assembled(response: &Response<SimulatedBuffer>) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut sent = 0;
    for piece in &response.pieces {
        frame.extend_from_slice(&response.bytes[sent..piece.at]);
        frame.extend_from_slice(piece.slice.as_slice());
        sent = piece.at;
    }
    frame.extend_from_slice(&response.bytes[sent..]);
    let (length, frame) = frame.split_first_chunk::<4>().expect("a frame begins with its length");
    assert_eq!(usize::try_from(i32::from_be_bytes(*length)), Ok(frame.len()), "the length of an answer");
    frame.to_vec()
}

fn store_options(id: ShardId) -> StoreOptions {
    let directory = PathBuf::from(format!("/data/shard-{id}"));
    StoreOptions {
        segment_bytes: 4 * 1024 * 1024,
        block_bytes: 128 * 1024,
        ..StoreOptions::new(id, directory, STORE_MEMORY_BYTES, 256 * 1024 * 1024)
    }
}

fn node(shard: u16) -> NodeStart {
    let node = NodeId::of_shard(ShardId::new(shard));
    NodeStart { node, host: "localhost".to_owned(), port: 9092 + shard, rack: None }
}

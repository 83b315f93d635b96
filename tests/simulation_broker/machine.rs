//! One life of the process: all shards in one executor, wired as `server::start` wires them, without sockets.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane::api::Api;
use corelane::broker::controller::{NodeStart, register_nodes};
use corelane::broker::metadata_log::{MetadataLog, SnapshotOptions};
use corelane::broker::{Broker, Lanes, inbox};
use corelane::cluster::image::MetadataImage;
use corelane::cluster::view::Advertise;
use corelane::config::BrokerConfig;
use corelane::limits::{METADATA_LOG_BYTES_MIN, METADATA_SNAPSHOT_BATCH_BYTES};
use corelane::metrics::ShardMetrics;
use corelane::runtime::Runtime;
use corelane::shard::Shard;
use corelane::shard::mesh::Lane;
use corelane::shard::recovery::Recovered;
use corelane::simulation::SimulatedRuntime;
use corelane::simulation::random::Random;
use corelane::store::{Store, StoreOptions};
use corelane::types::{NodeId, ShardId};

use crate::connection::Connection;
use crate::model::Key;

const CLUSTER_ID: &str = "c2ltdWxhdGVkLWNsdXN0ZQ";

/// Virtual time within which a start or a stop ends, whatever the disk does.
const PATIENCE: Duration = Duration::from_secs(300);

/// What stays the same over all lives of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) segment_bytes: u32,
    pub(crate) block_bytes: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) checkpoint_interval_ms: u64,
    pub(crate) written_flush_interval_ms: u64,
    /// How the log of the metadata begins anew.
    pub(crate) snapshots: SnapshotOptions,
    pub(crate) advertise: Advertise,
    pub(crate) settings: Vec<(String, String)>,
    /// Start although something is lost.
    pub(crate) accept_loss: bool,
}

impl Plan {
    /// A plan of a kind that depends on the seed.
    pub(crate) fn draw(random: &mut Random) -> Plan {
        let block_bytes = *random.pick(&[8192, 16384, 65536]);
        let segment_bytes = u32::try_from(block_bytes * random.pick(&[8, 16])).unwrap();
        let setting = |key: &str, value: String| (key.to_owned(), value);
        Plan {
            segment_bytes,
            block_bytes,
            memory_bytes: u64::try_from(block_bytes).unwrap() * random.pick(&[8, 16, 64]),
            checkpoint_interval_ms: *random.pick(&[1, 10, 100, 10_000]),
            written_flush_interval_ms: *random.pick(&[1, 50]),
            snapshots: SnapshotOptions {
                log_bytes_min: *random.pick(&[0, 0, 2000, METADATA_LOG_BYTES_MIN]),
                batch_bytes: *random.pick(&[150, 1000, METADATA_SNAPSHOT_BATCH_BYTES]),
            },
            advertise: *random.pick(&[Advertise::PerCore, Advertise::PerCore, Advertise::Single]),
            settings: vec![
                setting("num.partitions", random.range(1..4).to_string()),
                setting("log.retention.check.interval.ms", random.pick(&[5, 100, 300_000]).to_string()),
            ],
            accept_loss: false,
        }
    }

    /// The same, but no log start moves by itself.
    pub(crate) fn without_retention(&self) -> Plan {
        let mut plan = self.clone();
        for key in ["log.retention.check.interval.ms", "log.initial.task.delay.ms"] {
            plan.settings.push((key.to_owned(), "300000".to_owned()));
        }
        plan
    }

    fn store_options(&self, shard: ShardId) -> StoreOptions {
        let directory = PathBuf::from(format!("/data/shard-{shard}"));
        StoreOptions {
            segment_bytes: self.segment_bytes,
            accept_loss: self.accept_loss,
            block_bytes: self.block_bytes,
            checkpoint_interval_ms: self.checkpoint_interval_ms,
            checkpoint_appended_bytes: 4 * u64::from(self.segment_bytes),
            written_flush_interval_ms: self.written_flush_interval_ms,
            ..StoreOptions::new(shard, directory, self.memory_bytes, 1 << 40)
        }
    }

    fn config(&self) -> BrokerConfig {
        BrokerConfig::from_settings(self.settings.iter().cloned()).expect("the plan's settings are sound")
    }
}

/// One shard that serves.
pub(crate) struct Node {
    pub(crate) shard: Rc<Shard<SimulatedRuntime>>,
    pub(crate) log: Option<Rc<MetadataLog<SimulatedRuntime>>>,
    broker: Rc<Broker<SimulatedRuntime>>,
    api: Rc<Api<SimulatedRuntime>>,
}

/// A process that serves.
pub(crate) struct Process {
    pub(crate) runtime: SimulatedRuntime,
    pub(crate) nodes: Vec<Node>,
}

impl Process {
    /// Starts every shard; when one cannot, the others learn it and give up too.
    pub(crate) async fn start(
        runtime: &SimulatedRuntime,
        plan: &Plan,
        shard_count: u16,
    ) -> Result<Rc<Process>, String> {
        let lanes: Lanes = (0..shard_count).map(|_| Lane::default()).collect();
        let outcomes = Rc::new(RefCell::new(Vec::new()));
        for id in (0..shard_count).map(ShardId::new) {
            let (runtime, plan, lanes, outcomes) =
                (runtime.clone(), plan.clone(), Arc::clone(&lanes), Rc::clone(&outcomes));
            runtime.clone().spawn(async move {
                let started = Node::start(&runtime, &plan, id, shard_count, &lanes).await;
                if started.is_err() {
                    lanes.iter().for_each(Lane::close);
                    lanes[id.index()].abandon();
                }
                outcomes.borrow_mut().push((id, started));
            });
        }
        let all = Rc::clone(&outcomes);
        within(runtime, PATIENCE, "the start", move || all.borrow().len() == usize::from(shard_count)).await;
        let mut outcomes = outcomes.take();
        outcomes.sort_by_key(|(id, _)| *id);
        let nodes: Result<Vec<Node>, String> = outcomes.into_iter().map(|(_, started)| started).collect();
        Ok(Rc::new(Process { runtime: runtime.clone(), nodes: nodes? }))
    }

    /// Stops in good order: no connection is left, as after the server has drained.
    pub(crate) async fn stop(&self) -> Result<(), String> {
        let outcomes = Rc::new(RefCell::new(Vec::new()));
        for node in &self.nodes {
            if let Some(log) = &node.log {
                log.stop();
            }
            node.broker.close_lane();
            node.shard.stop();
            let (store, outcomes) = (node.shard.store.clone(), Rc::clone(&outcomes));
            self.runtime.spawn(async move {
                let closed = store.close().await.map_err(|error| error.to_string());
                outcomes.borrow_mut().push(closed);
            });
        }
        let (all, count) = (Rc::clone(&outcomes), self.nodes.len());
        within(&self.runtime, PATIENCE, "the stop", move || all.borrow().len() == count).await;
        outcomes.take().into_iter().collect()
    }

    /// A new connection to a shard.
    pub(crate) fn connect(&self, shard: usize) -> Connection {
        Connection::open(&self.runtime, &self.nodes[shard].api)
    }

    /// A new connection to any shard.
    pub(crate) fn connect_anywhere(&self, random: &mut Random) -> Connection {
        self.connect(random.index(self.nodes.len()))
    }

    /// Whether the store that holds a partition has failed: it acknowledges nothing that is sent from now on.
    pub(crate) fn has_failed(&self, (topic, partition): Key) -> bool {
        let mut nodes = self.nodes.iter().map(|node| &node.shard);
        nodes.any(|shard| shard.partition(topic, partition).is_some() && shard.store.failure().is_some())
    }

    /// Whether the store of any shard has failed.
    pub(crate) fn is_read_only(&self) -> bool {
        self.nodes.iter().any(|node| node.shard.store.failure().is_some())
    }
}

impl Node {
    async fn start(
        runtime: &SimulatedRuntime,
        plan: &Plan,
        id: ShardId,
        shard_count: u16,
        lanes: &Lanes,
    ) -> Result<Node, String> {
        let text = |error: &dyn std::fmt::Display| format!("shard {id}: {error}");
        let mut recovered = Recovered::default();
        let opened = Store::open(runtime.clone(), plan.store_options(id), &mut recovered).await;
        let store = opened.map_err(|error| text(&error))?;
        let empty = MetadataImage::empty(CLUSTER_ID);
        let (image, config, metrics) = (Arc::new(empty.clone()), Arc::new(plan.config()), ShardMetrics::new(id));
        let shard = Shard::new(id, runtime.clone(), store, recovered, image, config, metrics);
        let log = match id {
            ShardId::CONTROLLER => {
                let opened = MetadataLog::open(Rc::clone(&shard), Arc::clone(lanes), empty, plan.snapshots).await;
                Some(opened.map_err(|error| text(&error))?)
            }
            _ => None,
        };
        let broker = Broker::new(Rc::clone(&shard), plan.advertise, Arc::clone(lanes), log.clone());
        inbox::start(&broker);
        shard.start();
        if let Some(log) = &log {
            let records = register_nodes(&log.image(), &nodes(shard_count), &mut || runtime.random());
            log.begin(&records).await.map_err(|error| text(&error))?;
            log.start();
        } else {
            broker.first_image().await.map_err(|error| text(&error))?;
        }
        let api = Api::new(Rc::clone(&broker));
        Ok(Node { shard, log, broker, api })
    }
}

fn nodes(shard_count: u16) -> Vec<NodeStart> {
    let node = |shard| NodeStart {
        node: NodeId::of_shard(ShardId::new(shard)),
        host: "simulated".to_owned(),
        port: 9092 + shard,
        rack: None,
    };
    (0..shard_count).map(node).collect()
}

/// Waits until `done`, at most so long.
pub(crate) async fn within(runtime: &SimulatedRuntime, patience: Duration, what: &str, done: impl Fn() -> bool) {
    let deadline = runtime.now().plus_us(u64::try_from(patience.as_micros()).unwrap());
    while !done() {
        assert!(runtime.now() < deadline, "{what} does not end within {patience:?}");
        runtime.sleep(Duration::from_millis(1)).await;
    }
}

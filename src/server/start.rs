//! From options to a serving broker, and back to a stopped one: what `corelane serve` does.
//!
//! ```text
//! main thread:  limits → data directories (locked, judged) → ports free? → directories prepared → one executor per shard
//! every shard:  bind → open the store (recovery) → take in the first image → serve ... → drain → close the store
//! shard 0:      replay the metadata log; when all stores are open the directories are in use; register every node, publish;
//!               then the `ready` line and HTTP
//! ```
//!
//! A shard that cannot start stops the others before anything was served. Shards stop together: a lane is closed only when
//! no shard has a connection left that could ask across it.

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::data_directory::{DataDirectories, DirectoryError, Loss, Wanted};
use super::listener::{BindError, bind, check_free};
use super::node_settings;
use super::{Server, ServerConfig, Shutdown, serve_http, watch_signals};
use crate::api::Api;
use crate::broker::controller::{NodeStart, register_nodes};
use crate::broker::metadata_log::{MetadataError, MetadataLog, SnapshotOptions};
use crate::broker::{Broker, Lanes, inbox};
use crate::cluster::image::MetadataImage;
pub use crate::cluster::view::Advertise;
use crate::config::BrokerConfig;
use crate::config::topic::{Dynamic, TopicConfig};
use crate::limits::{
    DIRECTORY_CHECK_MS, IO_MEMORY_BYTES, SHARD_MEMORY_BYTES_MAX, SHARD_MEMORY_BYTES_MIN, SHARDS_DEFAULT_MAX,
    SHARDS_MAX, STOP_POLL_MS,
};
use crate::metrics::{self, ShardMetrics};
use crate::runtime::glommio::{
    self as machine, Cores, LimitError, Needs, ShardPlan, abort_on_panic, check_limits, check_threads, device_bytes,
    machine_memory_bytes, polled_devices, raise_file_limit, run_shards,
};
use crate::runtime::{Network, block_memory};
use crate::shard::Shard;
use crate::shard::mesh::Lane;
use crate::shard::recovery::Recovered;
use crate::store::{OpenError, ScrubOptions, StorageError, Store, StoreOptions};
use crate::types::{NodeId, ShardId};

/// A host and a port, as an option gives them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostPort {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<HostPort, String> {
        let wrong = || format!("`{text}` is not HOST:PORT; write for example 127.0.0.1:9092");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(HostPort { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl HostPort {
    /// The socket address `plus` ports further.
    fn address(&self, plus: u16) -> Result<SocketAddr, StartError> {
        let port =
            self.port.checked_add(plus).ok_or_else(|| StartError::Ports { first: self.port, count: plus + 1 })?;
        let resolved = (self.host.as_str(), port).to_socket_addrs().ok().and_then(|mut found| found.next());
        resolved.ok_or_else(|| StartError::Host { host: self.host.clone() })
    }
}

/// What `corelane serve` was asked for.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Data directories, one per disk.
    pub data: Vec<PathBuf>,
    /// Address of the first shard.
    pub listen: HostPort,
    /// `HOST[:PORT]` that clients are told, when it is not the one listened on.
    pub advertised_host: Option<String>,
    /// Number of shards; `None` chooses.
    pub shards: Option<u16>,
    /// How nodes are advertised.
    pub advertise: Advertise,
    /// Memory for all shards together; `None` chooses.
    pub memory_bytes: Option<u64>,
    /// Address of the metrics and health pages.
    pub http: HostPort,
    /// Settings by Kafka's names.
    pub config: BrokerConfig,
    /// Serve although acknowledged bytes are gone.
    pub accept_loss: bool,
}

/// Why the broker did not start, or stopped with an error. Every text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// More shards than there may be, or none.
    #[error("--shards must be between 1 and {SHARDS_MAX}")]
    Shards,
    /// The machine has too little memory for the shards.
    #[error(
        "{bytes} bytes of memory are too little for {shards} shards: give --memory at least {} or fewer --shards",
        SHARD_MEMORY_BYTES_MIN * u64::from(*shards)
    )]
    Memory {
        /// What there is.
        bytes: u64,
        /// How many share it.
        shards: u16,
    },
    /// The ports run over the end.
    #[error("{count} shards from port {first} on run past port 65535: choose a lower --listen port")]
    Ports {
        /// The first port.
        first: u16,
        /// How many are needed.
        count: u16,
    },
    /// A host name leads nowhere.
    #[error("cannot find an address of `{host}`: check the name in --listen or --http")]
    Host {
        /// The name.
        host: String,
    },
    /// Another option does not make sense.
    #[error("{0}")]
    Option(String),
    /// A data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A port cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A limit of this process is too low.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The machine refuses what executors need.
    #[error(transparent)]
    Executors(#[from] machine::StartError),
    /// No thread can be started.
    #[error("cannot start a thread: {0}: raise the limit of threads (`ulimit -u`, `TasksMax` in a systemd unit)")]
    Thread(std::io::Error),
    /// The system refused something.
    #[error("cannot {action}: {cause}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Its words.
        cause: std::io::Error,
    },
    /// A store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The metadata log does not open.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The store failed while closing.
    #[error("the store did not close cleanly: {0}; the next start recovers it")]
    Close(#[from] StorageError),
    /// Another shard failed; its own error says why.
    #[error("stopped because another shard failed")]
    Sibling,
}

/// What the shards of one process share.
struct Process {
    options: ServeOptions,
    directories: DataDirectories,
    loss: Loss,
    shard_count: u16,
    memory_per_shard: u64,
    files_max: u64,
    nodes: Vec<NodeStart>,
    lanes: Lanes,
    metrics: Vec<Arc<ShardMetrics>>,
    shutdown: Shutdown,
    started: Instant,
    progress: Mutex<Progress>,
    /// Shards whose store is open.
    opened: AtomicUsize,
    /// Shards that have no connection left.
    drained: AtomicUsize,
}

/// How far the start has come.
#[derive(Default)]
struct Progress {
    shards_ready: u16,
    partitions: usize,
}

/// Runs the broker until a signal stops it.
pub fn run(options: ServeOptions) -> Result<(), StartError> {
    let started = Instant::now();
    abort_on_panic();
    for warning in options.config.warnings() {
        tracing::warn!("{warning}");
    }
    let files_max = raise_file_limit().map_err(|cause| StartError::System { action: "raise the file limit", cause })?;
    for device in polled_devices() {
        tracing::warn!("{device} has poll queues: a core burns while I/O is in flight; set its io_poll queues to 0");
    }
    let options = ServeOptions { data: absolute(&options.data)?, ..options };
    let cores = Cores::of_this_process();
    let wanted = shards_wanted(options.shards, cores.physical)?;
    let (shards, accept_loss) = (options.shards, options.accept_loss);
    let directories = DataDirectories::open(&options.data, Wanted { shards, shards_default: wanted, accept_loss })?;
    let shard_count = directories.shard_count();
    let memory_per_shard = memory_per_shard(options.memory_bytes, machine_memory_bytes(), shard_count)?;
    check_limits(Needs { shards: shard_count, memory_per_shard, segment_files: directories.segment_files() })?;
    check_threads(shard_count).map_err(StartError::Thread)?;
    let nodes = nodes(&options, shard_count)?;
    check_ports(&options, shard_count)?;
    let given = node_settings::of_nodes(&nodes, &options.listen, options.advertise, &directories);
    let options = ServeOptions { config: options.config.with_nodes(given), ..options };
    for plus in ports(options.advertise, shard_count) {
        check_free(options.listen.address(plus)?)?;
    }
    check_free(options.http.address(0)?).map_err(|error| error.chosen_by("--http"))?;
    // From here on the shards are those of the store: whatever can be found wrong with the options was.
    directories.prepare()?;
    let shutdown = Shutdown::new();
    watch_signals(shutdown.clone()).map_err(StartError::Thread)?;
    let loss = directories.watch()?.start().map_err(StartError::Thread)?;
    let process = Arc::new(Process {
        directories,
        loss,
        shard_count,
        memory_per_shard,
        files_max,
        nodes,
        lanes: (0..shard_count).map(|_| Lane::default()).collect(),
        metrics: (0..shard_count).map(|shard| ShardMetrics::new(ShardId::new(shard))).collect(),
        shutdown,
        started,
        progress: Mutex::default(),
        opened: AtomicUsize::new(0),
        drained: AtomicUsize::new(0),
        options,
    });
    let plan = ShardPlan { count: shard_count, cpus: cores.cpus, io_memory_bytes: IO_MEMORY_BYTES };
    block_memory::start_preparing();
    let outcomes = run_shards(&plan, move |shard, runtime| shard_main(shard, runtime, Arc::clone(&process)))?;
    // The error that is somebody's own comes before those that followed from it.
    let mut errors: Vec<StartError> = outcomes.into_iter().filter_map(Result::err).collect();
    errors.sort_by_key(|error| matches!(error, StartError::Sibling));
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// Paths that mean the same wherever somebody reads them.
fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>, StartError> {
    let absolute = |path| std::path::absolute(path);
    let absolute: Result<Vec<PathBuf>, _> = paths.iter().map(absolute).collect();
    absolute.map_err(|cause| StartError::System { action: "find the data directory", cause })
}

fn shards_wanted(asked: Option<u16>, cores: usize) -> Result<u16, StartError> {
    match asked {
        Some(count) if (1..=SHARDS_MAX).contains(&count) => Ok(count),
        Some(_) => Err(StartError::Shards),
        None => Ok(u16::try_from(cores).unwrap_or(SHARDS_DEFAULT_MAX).clamp(1, SHARDS_DEFAULT_MAX)),
    }
}

/// A quarter of RAM unless asked otherwise, at most [`SHARD_MEMORY_BYTES_MAX`] a shard by default.
fn memory_per_shard(asked: Option<u64>, machine_bytes: u64, shards: u16) -> Result<u64, StartError> {
    let per_shard = match asked {
        Some(bytes) => bytes / u64::from(shards),
        None => (machine_bytes / 4 / u64::from(shards)).min(SHARD_MEMORY_BYTES_MAX),
    };
    if per_shard < SHARD_MEMORY_BYTES_MIN {
        return Err(StartError::Memory { bytes: asked.unwrap_or(machine_bytes / 4), shards });
    }
    Ok(per_shard)
}

/// Which ports above the first are listened on.
fn ports(advertise: Advertise, shards: u16) -> std::ops::Range<u16> {
    match advertise {
        Advertise::PerCore => 0..shards,
        Advertise::Single => 0..1,
    }
}

/// The ports must be told to others, and each has one use.
fn check_ports(options: &ServeOptions, shards: u16) -> Result<(), StartError> {
    let (listen, http) = (&options.listen, &options.http);
    for (option, chosen) in [("--listen", listen), ("--http", http)] {
        if chosen.port == 0 {
            return Err(StartError::Option(format!("{option}: port 0 is none: choose one that clients can be told")));
        }
    }
    let is_everywhere = |host: &str| host == "0.0.0.0" || host == "::";
    let meet = listen.host == http.host || is_everywhere(&listen.host) || is_everywhere(&http.host);
    match http.port.checked_sub(listen.port).filter(|plus| meet && ports(options.advertise, shards).contains(plus)) {
        Some(shard) => {
            let text =
                format!("--http port {} is the one of shard {shard}: choose another --http or --listen", http.port);
            Err(StartError::Option(text))
        }
        None => Ok(()),
    }
}

/// What clients are told of every node.
fn nodes(options: &ServeOptions, shard_count: u16) -> Result<Vec<NodeStart>, StartError> {
    let advertised = match &options.advertised_host {
        None => HostPort { host: advertised_host(&options.listen.host), port: options.listen.port },
        // An address of IPv6 has colons of its own.
        Some(text) if !text.contains(':') || text.parse::<Ipv6Addr>().is_ok() => {
            HostPort { host: text.clone(), port: options.listen.port }
        }
        Some(text) => {
            HostPort::from_str(text).map_err(|wrong| StartError::Option(format!("--advertised-host: {wrong}")))?
        }
    };
    let machine = hostname();
    let node = |shard: u16| {
        let plus = if options.advertise == Advertise::PerCore { shard } else { 0 };
        let port = advertised.port.checked_add(plus);
        let port = port.ok_or(StartError::Ports { first: advertised.port, count: shard_count })?;
        let node = NodeId::of_shard(ShardId::new(shard));
        Ok(NodeStart { node, host: advertised.host.clone(), port, rack: Some(machine.clone()) })
    };
    (0..shard_count).map(node).collect()
}

/// The host that clients can reach when we listen on `host`: on all interfaces it is the machine's name, as with Kafka.
fn advertised_host(host: &str) -> String {
    if host == "0.0.0.0" || host == "::" { hostname() } else { host.to_owned() }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

/// One shard from its first to its last breath.
async fn shard_main<N: Network>(id: ShardId, runtime: N, process: Arc<Process>) -> Result<(), StartError> {
    let outcome = run_shard(id, runtime, &process).await;
    if let Err(error) = &outcome {
        if !matches!(error, StartError::Sibling) {
            tracing::error!("shard {id}: {error}");
        }
        // The others wait for this one's image or answers; a closed lane tells them that none will come.
        process.shutdown.request();
        process.lanes.iter().for_each(Lane::close);
        process.lanes[id.index()].abandon();
        process.drained.fetch_add(1, Ordering::SeqCst);
    }
    outcome
}

async fn run_shard<N: Network>(id: ShardId, runtime: N, process: &Arc<Process>) -> Result<(), StartError> {
    let plus = if process.options.advertise == Advertise::PerCore { id.value() } else { 0 };
    let is_shared = process.options.advertise == Advertise::Single;
    let listener = bind(&runtime, process.options.listen.address(plus)?, is_shared).await?;
    let mut recovered = Recovered::default();
    let store = Store::open(runtime.clone(), store_options(id, process), &mut recovered).await?;
    process.opened.fetch_add(1, Ordering::SeqCst);
    runtime.spawn(heed_loss(id, runtime.clone(), store.clone(), Arc::clone(process)));
    let config = Arc::new(process.options.config.clone());
    let empty = MetadataImage::empty(process.directories.cluster_id());
    let metrics = Arc::clone(&process.metrics[id.index()]);
    metrics.memory_bytes_max.set(process.memory_per_shard);
    let shard = Shard::new(
        id,
        runtime.clone(),
        store.clone(),
        recovered,
        Arc::new(empty.clone()),
        config,
        Arc::clone(&metrics),
    );
    let lanes = Arc::clone(&process.lanes);
    let log = match id {
        ShardId::CONTROLLER => {
            let opened = MetadataLog::open(Rc::clone(&shard), Arc::clone(&lanes), empty, SnapshotOptions::default());
            Some(opened.await?)
        }
        _ => None,
    };
    let broker = Broker::new(Rc::clone(&shard), process.options.advertise, lanes, log.clone());
    inbox::start(&broker);
    shard.start();
    if let Some(log) = &log {
        process.enter_use(&runtime).await?;
        let records = register_nodes(&log.image(), &process.nodes, &mut || runtime.random());
        log.begin(&records).await?;
        log.start();
    } else {
        broker.first_image().await.map_err(|_| StartError::Sibling)?;
    }
    let server_config = ServerConfig {
        request_bytes_max: process.options.config.socket_request_max_bytes,
        connection_idle_ms: process.options.config.connections_max_idle_ms.map_or(u64::MAX, i64::unsigned_abs),
        ..ServerConfig::new(process.memory_per_shard, process.files_max, process.shard_count)
    };
    let server = Server::new(runtime.clone(), Api::new(Rc::clone(&broker)), server_config, metrics);
    if id == ShardId::CONTROLLER {
        start_http(&runtime, process).await?;
    }
    process.on_shard_ready(shard.partition_count());
    // Joins may wait for minutes; those who are left when the shutdown begins look for their coordinator again.
    let stopping = (process.shutdown.requested(), Rc::clone(&shard));
    runtime.spawn(async move {
        stopping.0.await;
        stopping.1.stop_coordination();
    });
    server.serve(listener, process.shutdown.clone()).await;
    process.drained.fetch_add(1, Ordering::SeqCst);
    while process.drained.load(Ordering::SeqCst) < usize::from(process.shard_count) {
        runtime.sleep(Duration::from_millis(STOP_POLL_MS)).await;
    }
    if let Some(log) = &log {
        log.stop();
    }
    broker.close_lane();
    shard.stop();
    store.close().await?;
    Ok(())
}

fn store_options(id: ShardId, process: &Process) -> StoreOptions {
    let directory = process.directories.of_shard(id);
    let beside = u64::from(process.directories.shards_beside(id));
    // The shard's share of the device, less 15 % that no store should fill.
    let budget_bytes = device_bytes(directory.parent().unwrap_or(&directory)) / 100 * 85 / beside;
    // A quarter of the memory is for requests in flight, a quarter for answers that are not sent yet, the rest for the
    // log's tail and for cold reads.
    let memory_bytes = process.memory_per_shard / 2;
    let bytes_per_second = process.options.config.scrub_bytes_per_second;
    StoreOptions {
        accept_loss: process.options.accept_loss,
        scrub: ScrubOptions { bytes_per_second, ..ScrubOptions::default() },
        ..StoreOptions::new(id, directory, memory_bytes, budget_bytes)
    }
}

/// Makes the store read-only once its directory is not the one that was opened.
async fn heed_loss<N: Network>(id: ShardId, runtime: N, store: Store<N>, process: Arc<Process>) {
    while !process.shutdown.is_requested() {
        if let Some(cause) = process.loss.of(id) {
            return store.make_read_only("look at its directory", &std::io::Error::other(cause));
        }
        runtime.sleep(Duration::from_millis(DIRECTORY_CHECK_MS)).await;
    }
}

async fn start_http<N: Network>(runtime: &N, process: &Arc<Process>) -> Result<(), StartError> {
    let listener = bind(runtime, process.options.http.address(0)?, false).await;
    let listener = listener.map_err(|error| error.chosen_by("--http"))?;
    let for_metrics = Arc::clone(process);
    let for_health = Arc::clone(process);
    let pages = serve_http(
        runtime.clone(),
        listener,
        process.shutdown.clone(),
        move || metrics::render(&for_metrics.metrics),
        move || for_health.health(),
    );
    runtime.spawn(pages);
    Ok(())
}

impl Process {
    /// Once all stores are open, the directories say that they are in use. For the first shard, before it publishes an image:
    /// no shard serves without one.
    async fn enter_use<N: Network>(&self, runtime: &N) -> Result<(), StartError> {
        if !self.directories.has_unused_shards() {
            return Ok(());
        }
        while self.opened.load(Ordering::SeqCst) < usize::from(self.shard_count) {
            if self.shutdown.is_requested() {
                return Err(StartError::Sibling);
            }
            runtime.sleep(Duration::from_millis(STOP_POLL_MS)).await;
        }
        Ok(self.directories.enter_use()?)
    }

    /// The last shard to be ready prints the line that scripts wait for.
    fn on_shard_ready(&self, partitions: usize) {
        let mut progress = self.progress.lock().expect("a panic stops the process");
        progress.shards_ready += 1;
        progress.partitions += partitions;
        if progress.shards_ready == self.shard_count && !self.shutdown.is_requested() {
            let line = self.ready_line(progress.partitions);
            // Nobody may be reading stdout; that is no reason not to serve.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    fn ready_line(&self, partitions: usize) -> String {
        let shown = match self.options.advertise {
            Advertise::PerCore => self.nodes.len(),
            Advertise::Single => 1,
        };
        let addresses: Vec<String> =
            self.nodes[..shown].iter().map(|node| format!("{}:{}", node.host, node.port)).collect();
        // The metadata log is a partition that no client sees.
        let partitions = partitions.saturating_sub(1);
        let durability = TopicConfig::resolve(&self.options.config, Dynamic::NONE).durability.word();
        let recovery_ms = self.started.elapsed().as_millis();
        format!(
            "ready bootstrap={} nodes={shown} shards={} partitions={partitions} durability={durability} \
             recovery_ms={recovery_ms}",
            addresses.join(","),
            self.shard_count,
        )
    }

    /// The word for /health: "ok"; "full" with the shards that refuse records for want of space, which still serve what
    /// they have and delete it; "degraded" with the shards where reads met damage, which serve everything else, and which a
    /// restart does not mend; or why the broker cannot do its work.
    fn health(&self) -> Result<String, String> {
        let ready = self.progress.lock().expect("a panic stops the process").shards_ready;
        if ready < self.shard_count {
            return Err(format!("{ready} of {} shards are ready", self.shard_count));
        }
        let shards_where = |is_so: fn(&ShardMetrics) -> bool| {
            let shards =
                self.metrics.iter().filter(|metrics| is_so(metrics)).map(|metrics| metrics.shard().to_string());
            shards.collect::<Vec<_>>().join(", ")
        };
        let read_only = shards_where(|metrics| metrics.store_read_only.value() != 0);
        if !read_only.is_empty() {
            return Err(format!("read-only shards: {read_only}"));
        }
        let words: Vec<String> = [
            ("full shards", shards_where(|metrics| metrics.store_full.value() != 0)),
            ("degraded: damaged reads on shards", shards_where(|metrics| metrics.damaged_reads.value() != 0)),
        ]
        .into_iter()
        .filter(|(_, shards)| !shards.is_empty())
        .map(|(word, shards)| format!("{word}: {shards}"))
        .collect();
        Ok(if words.is_empty() { "ok".to_owned() } else { words.join("; ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_told_apart() {
        assert_eq!("h:9092".parse(), Ok(HostPort { host: "h".into(), port: 9092 }));
        assert_eq!("[::1]:9092".parse(), Ok(HostPort { host: "::1".into(), port: 9092 }));
        assert!("h".parse::<HostPort>().is_err());
        assert!(":9092".parse::<HostPort>().is_err());
        assert!("h:99999".parse::<HostPort>().is_err());
    }

    /// DescribeLogDirs told `./data/shard-0`, which means nothing to who asks from elsewhere.
    #[test]
    fn data_directories_are_absolute_wherever_they_are_told() {
        let paths = absolute(&[PathBuf::from("./data"), PathBuf::from("/elsewhere")]).unwrap();
        assert_eq!(paths, [std::env::current_dir().unwrap().join("data"), PathBuf::from("/elsewhere")]);
    }

    fn options() -> ServeOptions {
        ServeOptions {
            data: vec!["data".into()],
            listen: "127.0.0.1:9092".parse().unwrap(),
            advertised_host: None,
            shards: None,
            advertise: Advertise::PerCore,
            memory_bytes: None,
            http: "127.0.0.1:9644".parse().unwrap(),
            config: BrokerConfig::load(None, &[]).unwrap(),
            accept_loss: false,
        }
    }

    #[test]
    fn advertised_hosts_come_with_a_port_or_without() {
        let told = |text: &str| {
            let nodes = nodes(&ServeOptions { advertised_host: Some(text.to_owned()), ..options() }, 2);
            nodes.map(|nodes| (nodes[1].host.clone(), nodes[1].port)).map_err(|error| error.to_string())
        };
        assert_eq!(told("broker"), Ok(("broker".into(), 9093)));
        assert_eq!(told("broker:100"), Ok(("broker".into(), 101)));
        assert_eq!(told("fd00::1"), Ok(("fd00::1".into(), 9093)));
        assert_eq!(told("[fd00::1]:100"), Ok(("fd00::1".into(), 101)));
        // It was taken for a name.
        assert!(told("broker:99999").unwrap_err().starts_with("--advertised-host: `broker:99999` is not HOST:PORT"));
    }

    #[test]
    fn every_port_has_one_use() {
        let check = |listen: &str, http: &str, shards, advertise| {
            let (listen, http) = (listen.parse().unwrap(), http.parse().unwrap());
            check_ports(&ServeOptions { listen, http, advertise, ..options() }, shards)
                .map_err(|error| error.to_string())
        };
        check("127.0.0.1:9092", "127.0.0.1:9094", 2, Advertise::PerCore).unwrap();
        check("127.0.0.1:9092", "127.0.0.1:9093", 2, Advertise::Single).unwrap();
        check("127.0.0.1:9092", "127.0.0.2:9093", 2, Advertise::PerCore).unwrap();
        for http in ["127.0.0.1:9093", "0.0.0.0:9093"] {
            let error = check("127.0.0.1:9092", http, 2, Advertise::PerCore).unwrap_err();
            assert_eq!(error, "--http port 9093 is the one of shard 1: choose another --http or --listen");
        }
        assert!(
            check("127.0.0.1:0", "127.0.0.1:9644", 2, Advertise::PerCore).unwrap_err().starts_with("--listen: port 0")
        );
    }

    #[test]
    fn memory_is_a_quarter_of_the_machine_and_at_most_a_gibibyte_a_shard() {
        assert_eq!(memory_per_shard(None, 8 << 30, 2).unwrap(), 1 << 30);
        assert_eq!(memory_per_shard(None, 2 << 30, 2).unwrap(), 256 << 20);
        assert_eq!(memory_per_shard(Some(4 << 30), 8 << 30, 2).unwrap(), 2 << 30);
        assert!(memory_per_shard(Some(16 << 20), 8 << 30, 2).is_err());
    }

    #[test]
    fn shards_default_to_cores_within_bounds() {
        assert_eq!(shards_wanted(None, 2).unwrap(), 2);
        assert_eq!(shards_wanted(None, 100).unwrap(), SHARDS_DEFAULT_MAX);
        assert!(shards_wanted(Some(0), 2).is_err());
        assert!(shards_wanted(Some(SHARDS_MAX + 1), 2).is_err());
    }
}

//! One trial after the other on a server that runs: warm-up, load, idling, starting again.

use std::cell::Cell;
use std::error::Error;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::definition::{IdleStep, WarmUpRule};
use super::order::Planned;
use super::progress::{Doing, Progress};
use super::readiness::check_disk;
use super::run::now;
use super::topics::delete_topics;
use super::warm_up::{Figures, WINDOW_S, Warmth, judge};
use crate::client::Client;
use crate::lab::cluster::Cluster;
use crate::lab::generator::{Load, objections};
use crate::lab::measure::{Snapshot, machine};
use crate::lab::result::{Objection, Trial, Usage, WarmUp, Window};
use crate::lab::target::{Running, Setup};
use crate::lab::workload::Workload;
use crate::signals::Signals;

/// Between two looks at whether the user wants to stop.
const PAUSE: Duration = Duration::from_millis(100);

/// What every trial needs.
pub(super) struct Bench<'s> {
    pub(super) setup: &'s Setup,
    pub(super) signals: Signals,
    pub(super) progress: Progress,
    /// Tells topics of this command from those of an earlier one, on a server that lives longer.
    stamp: u64,
    loads: Cell<u32>,
}

/// What server and machine had spent at a moment.
pub(super) struct Spent {
    server: Option<Snapshot>,
    machine: Snapshot,
}

impl<'s> Bench<'s> {
    pub(super) fn new(setup: &'s Setup, signals: Signals, progress: Progress) -> Bench<'s> {
        let since_epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Bench { setup, signals, progress, stamp: since_epoch.as_secs(), loads: Cell::new(0) }
    }

    /// A trial as planned, without any figure yet.
    pub(super) fn trial(&self, planned: &Planned<'_>, running: &Running, warm_up: Option<WarmUp>) -> Trial {
        Trial {
            workload: planned.workload.clone(),
            theme: planned.theme.clone(),
            target: running.sheet.clone(),
            repeat: planned.key.repeat,
            started: now(),
            load: None,
            server: None,
            machine: None,
            ready_ms: running.ready.map(|ready| ready.as_secs_f64() * 1000.0),
            warm_up,
            verdict: Vec::new(),
        }
    }

    /// Puts a server that just started under the load until it has settled.
    pub(super) fn warm_up(
        &self,
        workload: &Workload,
        running: &Running,
        rule: WarmUpRule,
    ) -> Result<WarmUp, Box<dyn Error>> {
        let doing = Doing::new(&running.sheet.name, workload, "warm-up");
        let mut load = self.start(workload, running, &self.prefix())?;
        let (mut seconds, mut windows) = (Vec::new(), Vec::new());
        let mut before = running.snapshot()?;
        for elapsed_s in 1.. {
            seconds.push(self.second(&mut load, &doing)?);
            if elapsed_s % WINDOW_S == 0 {
                let after = running.snapshot()?;
                windows.push(Figures::of(&seconds, cpu_s(before.as_ref(), after.as_ref())));
                (seconds, before) = (Vec::new(), after);
            }
            let warmth = judge(rule, elapsed_s, &windows);
            if warmth != Warmth::Warming {
                let result = load.finish()?;
                if result.produced.records == 0 {
                    return Err(format!("the warm-up: {}", result.first_error.as_deref().unwrap_or("no answer")).into());
                }
                return Ok(WarmUp { seconds: f64::from(elapsed_s), settled: warmth == Warmth::Settled });
            }
        }
        unreachable!("the rule ends every warm-up")
    }

    /// Puts the server under a load, measures it and deletes its topics if asked to.
    pub(super) fn load(
        &self,
        planned: &Planned<'_>,
        running: &Running,
        warm_up: Option<WarmUp>,
        fill_bytes: u64,
        delete: bool,
    ) -> Result<Trial, Box<dyn Error>> {
        let workload = &planned.workload;
        let prefix = self.prefix();
        let mut load = self.start(workload, running, &prefix)?;
        self.fill(&mut load, workload, running, fill_bytes)?;
        let settled_s = self.settle(&mut load, workload, running)?;
        let doing = Doing::new(&running.sheet.name, workload, "");
        let before = self.spent(running)?;
        load.begin()?;
        let started = now();
        for _ in 0..workload.duration_s {
            self.second(&mut load, &doing)?;
        }
        let (server, machine) = self.spent(running)?.since(&before);
        let result = load.finish()?;
        let warm_up = warm_up.map(|warm_up| WarmUp { seconds: warm_up.seconds + f64::from(settled_s), ..warm_up });
        let mut verdict = objections(workload, &result);
        if warm_up.is_some_and(|warm_up| !warm_up.settled) {
            verdict.push(Objection::NotWarm);
        }
        if delete {
            delete_topics(running.cluster, &prefix)?;
        }
        let trial = self.trial(planned, running, warm_up);
        Ok(Trial { started, load: Some(result), server, machine: Some(machine), verdict, ..trial })
    }

    /// Goes on until so many bytes of records are stored.
    fn fill(&self, load: &mut Load, workload: &Workload, running: &Running, bytes: u64) -> Result<(), Box<dyn Error>> {
        let doing = Doing::new(&running.sheet.name, workload, "fill");
        let mut stored = 0;
        while stored < bytes {
            stored += self.second(load, &doing)?.produced_bytes;
        }
        Ok(())
    }

    /// Warms up for this workload: its own time, and as long again if the halves of that time differed. Gives the seconds.
    fn settle(&self, load: &mut Load, workload: &Workload, running: &Running) -> Result<u32, Box<dyn Error>> {
        let doing = Doing::new(&running.sheet.name, workload, "warm-up");
        let half_s = workload.warm_up_s.div_ceil(2);
        let half = |load: &mut Load| -> Result<Option<Figures>, Box<dyn Error>> {
            let before = running.snapshot()?;
            let seconds: Vec<Window> = (0..half_s).map(|_| self.second(load, &doing)).collect::<Result<_, _>>()?;
            Ok(Figures::of(&seconds, cpu_s(before.as_ref(), running.snapshot()?.as_ref())))
        };
        for round in 1..=2 {
            let (first, second) = (half(load)?, half(load)?);
            let is_alike = first.zip(second).is_some_and(|(first, second)| second.is_like(&first));
            if is_alike || half_s == 0 {
                return Ok(round * 2 * half_s);
            }
        }
        Ok(4 * half_s)
    }

    /// Watches a server with partitions and connections that nobody uses.
    pub(super) fn idle(
        &self,
        planned: &Planned<'_>,
        step: &IdleStep,
        running: &Running,
        warm_up: Option<WarmUp>,
        delete: bool,
    ) -> Result<Trial, Box<dyn Error>> {
        let bootstrap = broker(running)?;
        let doing = Doing::new(&running.sheet.name, &planned.workload, "idle");
        self.progress.begin(&doing);
        let prefix = self.prefix();
        let mut client = Client::connect(bootstrap)?;
        for topic in 0..step.topics {
            client.create_topic(&format!("{prefix}{topic}"), i32::try_from(step.partitions)?, &[])?;
        }
        let connections: Vec<TcpStream> =
            (0..step.connections).map(|_| TcpStream::connect(bootstrap)).collect::<Result<_, _>>()?;
        self.wait(step.seconds)?;
        let (before, started) = (self.spent(running)?, now());
        self.wait(step.seconds)?;
        let (server, machine) = self.spent(running)?.since(&before);
        drop(connections);
        if delete {
            delete_topics(running.cluster, &prefix)?;
        }
        Ok(Trial { started, server, machine: Some(machine), ..self.trial(planned, running, warm_up) })
    }

    /// Stores records, stops the server cleanly and starts it again.
    pub(super) fn start_time(
        &self,
        planned: &Planned<'_>,
        running: Running,
        fill_bytes: u64,
    ) -> Result<(Running, Trial), Box<dyn Error>> {
        let mut load = self.start(&planned.workload, &running, &self.prefix())?;
        self.fill(&mut load, &planned.workload, &running, fill_bytes)?;
        load.finish()?;
        self.progress.begin(&Doing::new(&running.sheet.name, &planned.workload, "restart"));
        let started = now();
        let running = running.restart()?;
        let trial = Trial { started, ..self.trial(planned, &running, None) };
        Ok((running, trial))
    }

    /// What server and machine have spent so far.
    pub(super) fn spent(&self, running: &Running) -> Result<Spent, Box<dyn Error>> {
        Ok(Spent { server: running.snapshot()?, machine: machine::snapshot(&self.setup.data)? })
    }

    /// Begins the names of topics that nobody used yet.
    pub(super) fn prefix(&self) -> String {
        let load = self.loads.get();
        self.loads.set(load + 1);
        format!("lab-{:x}-{load}-", self.stamp)
    }

    /// Waits for the next look at whether the user wants to stop.
    ///
    /// Errors: the user does.
    pub(super) fn pause(&self) -> Result<(), Box<dyn Error>> {
        self.signals.wait(Some(PAUSE));
        self.go_on()
    }

    fn start(&self, workload: &Workload, running: &Running, prefix: &str) -> Result<Load, Box<dyn Error>> {
        self.go_on()?;
        self.progress.begin(&Doing::new(&running.sheet.name, workload, "topics"));
        Load::start(workload, &running.cluster, &self.setup.generator_cpus, prefix)
    }

    fn second(&self, load: &mut Load, doing: &Doing) -> Result<Window, Box<dyn Error>> {
        self.go_on()?;
        let window = load.next_window()?;
        check_disk(&self.setup.data)?;
        self.progress.second(doing, &window);
        Ok(window)
    }

    fn wait(&self, seconds: u32) -> Result<(), Box<dyn Error>> {
        self.signals.wait(Some(Duration::from_secs(seconds.into())));
        self.go_on()
    }

    fn go_on(&self) -> Result<(), Box<dyn Error>> {
        if self.signals.came() { Err("stopped".into()) } else { Ok(()) }
    }
}

impl Spent {
    /// What server and machine spent between two moments.
    pub(super) fn since(&self, before: &Spent) -> (Option<Usage>, Usage) {
        let server = self.server.as_ref().zip(before.server.as_ref()).map(|(after, before)| after.usage_since(before));
        (server, self.machine.usage_since(&before.machine))
    }
}

/// The address of a broker.
///
/// Errors: it is a floor.
pub(super) fn broker(running: &Running) -> Result<SocketAddr, Box<dyn Error>> {
    match running.cluster {
        Cluster::Kafka { bootstrap } => Ok(bootstrap),
        Cluster::Floor { .. } => Err("a floor knows no topics".into()),
    }
}

/// CPU time of the server between two moments, in seconds; 0 of one of which only others know.
fn cpu_s(before: Option<&Snapshot>, after: Option<&Snapshot>) -> f64 {
    after.zip(before).map_or(0.0, |(after, before)| after.usage_since(before).cpu_s)
}

//! A load that runs: started, watched second by second, finished.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::bounds::{BACKLOG_IDLE_S_MAX, START_AHEAD_NS};
use super::clock::SECOND_NS;
use super::context::Context;
use super::ends;
use super::meter::{Tally, latency, share};
use super::plan::Plan;
use super::preparation;
use super::supply::Supply;
use super::thread::{Command, Report, ReportKind, Team, Thread, alarm};
use crate::lab::cluster::Cluster;
use crate::lab::number::{narrow, wide};
use crate::lab::result::{GeneratorUsage, LoadResult, Window};
use crate::lab::workload::{Rate, Workload};
use crate::report::float;

/// A running load. Its threads end when it is dropped.
pub(crate) struct Load {
    plan: Arc<Plan>,
    workers: Vec<Worker>,
    connections: u32,
    total: Tally,
    windows: Vec<Window>,
    /// The first error before anything counted.
    early_error: Option<String>,
    /// When what counts began, or the load itself before.
    began_ns: u64,
    /// CPU time of each thread at that moment.
    began_cpu_ns: Vec<u64>,
}

/// A thread as main sees it.
struct Worker {
    thread: Option<JoinHandle<Result<(), String>>>,
    alarm: Arc<OwnedFd>,
    commands: Sender<Command>,
    reports: Receiver<Report>,
}

impl Load {
    /// Creates the topics `{topic_prefix}0`, `1` and so on, and starts the load with one thread on each of `cpus`.
    /// It runs when this returns.
    ///
    /// Errors: a workload that makes no sense or that the server cannot have; a server that is not there or refuses.
    pub(crate) fn start(
        workload: &Workload,
        cluster: &Cluster,
        cpus: &[usize],
        topic_prefix: &str,
    ) -> Result<Load, Box<dyn Error>> {
        workload.validate(cluster)?;
        if cpus.is_empty() {
            return Err("the generator needs a CPU".into());
        }
        raise_file_limit()?;
        let plan = preparation::plan(workload, cluster, topic_prefix)?;
        if let Cluster::Floor { .. } = cluster {
            return Load::run(plan, &[], topic_prefix, cpus);
        }
        let mut ends = ends::ends(&plan)?;
        if let Some(catch_up) = &workload.catch_up {
            let backlog = Load::run(preparation::backlog(&plan, catch_up.backlog_bytes), &[], topic_prefix, cpus)?;
            backlog.finish_by_itself()?;
            ends = ends::ends(&plan)?;
        }
        Load::run(plan, &ends, topic_prefix, cpus)
    }

    fn run(plan: Plan, ends: &[i64], topic_prefix: &str, cpus: &[usize]) -> Result<Load, Box<dyn Error>> {
        let mut teams = preparation::teams(&plan, ends, topic_prefix, cpus.len())?;
        let connections = teams.iter().map(Team::connections).sum();
        let supplies: Vec<Supply> = (0..).take(cpus.len()).map(|seed| Supply::new(&plan, seed)).collect();
        let began_ns = plan.clock.now() + START_AHEAD_NS;
        let plan = Arc::new(plan);
        let mut workers = Vec::new();
        for ((cpu, mut team), supply) in cpus.iter().zip(teams.drain(..)).zip(supplies) {
            for producer in &mut team.producers {
                producer.start(&plan, began_ns);
            }
            workers.push(Worker::start(&plan, *cpu, team, supply, began_ns)?);
        }
        let began_cpu_ns = vec![0; workers.len()];
        Ok(Load {
            plan,
            workers,
            connections: narrow(connections),
            total: Tally::new(),
            windows: Vec::new(),
            early_error: None,
            began_ns,
            began_cpu_ns,
        })
    }

    /// Waits until a load that ends by itself has sent everything.
    ///
    /// Errors: records that failed; nothing that moves for ten seconds.
    fn finish_by_itself(mut self) -> Result<(), Box<dyn Error>> {
        let wanted = self.plan.records_max.unwrap_or(0) * u64::from(self.plan.workload.producers);
        let mut idle_s = 0;
        while self.total.produced.records < wanted {
            let window = self.next_window()?;
            idle_s = if window.produced_records == 0 { idle_s + 1 } else { 0 };
            if self.total.errors > 0 || idle_s == BACKLOG_IDLE_S_MAX {
                let why = self.total.first_error.take().unwrap_or_else(|| "the server does not answer".to_owned());
                return Err(format!("the backlog could not be stored: {why}").into());
            }
        }
        self.finish().map(drop)
    }

    /// Waits for the end of the current second and tells what it saw.
    ///
    /// Errors: a thread that ended, with its reason.
    pub(crate) fn next_window(&mut self) -> Result<Window, Box<dyn Error>> {
        let reports = self.gather(ReportKind::Second)?;
        let (mut tally, mut unacknowledged, mut end_ns) = (Tally::new(), 0, 0);
        for report in reports {
            tally.add(report.tally);
            unacknowledged += report.unacknowledged;
            end_ns = end_ns.max(report.at_ns);
        }
        let window = Window {
            second: float(end_ns - self.began_ns) / float(SECOND_NS),
            produced_records: tally.produced.records,
            produced_bytes: tally.produced.bytes,
            consumed_records: tally.consumed.records,
            consumed_bytes: tally.consumed.bytes,
            caught_up_bytes: tally.caught_up.bytes,
            p50_us: tally.latencies.value_at_quantile(0.5),
            p99_us: tally.latencies.value_at_quantile(0.99),
            max_us: tally.latencies.max(),
            end_to_end_p99_us: tally.end_to_end.value_at_quantile(0.99),
            unacknowledged,
        };
        self.total.add(tally);
        self.windows.push(window);
        Ok(window)
    }

    /// From now on everything counts, and nothing that was before.
    pub(crate) fn begin(&mut self) -> Result<(), Box<dyn Error>> {
        let at_ns = self.plan.clock.now();
        for worker in &self.workers {
            worker.tell(Command::Begin { at_ns })?;
        }
        let reports = self.gather(ReportKind::Begin)?;
        self.began_cpu_ns = reports.iter().map(|report| report.cpu_ns).collect();
        self.began_ns = at_ns;
        let before = reports.into_iter().filter_map(|report| report.tally.first_error);
        self.early_error = self.early_error.take().or(self.total.first_error.take()).or(before.into_iter().next());
        self.total = Tally::new();
        self.windows.clear();
        Ok(())
    }

    /// Sends nothing more, waits a bounded time for what is unanswered, and tells what came of it all. What is
    /// acknowledged after this call counts for the latency, not for the throughput.
    pub(crate) fn finish(mut self) -> Result<LoadResult, Box<dyn Error>> {
        for worker in &self.workers {
            worker.tell(Command::Stop)?;
        }
        let stopped = self.gather(ReportKind::Stop)?;
        let ended_ns = stopped.iter().map(|report| report.at_ns).max().unwrap_or(self.began_ns);
        let shares: Vec<(u64, u64)> = stopped
            .iter()
            .zip(&self.began_cpu_ns)
            .map(|(report, began_cpu_ns)| (report.cpu_ns - began_cpu_ns, report.at_ns - self.began_ns))
            .collect();
        let broken: usize = stopped.iter().map(|report| report.broken).sum();
        for report in stopped {
            self.total.add(report.tally);
        }
        if self.total.errors == 0 {
            // A connection that broke before anything counted has been missing ever since.
            let why = self.early_error.take().unwrap_or_default();
            self.total.fail(wide(broken), || why);
        }
        let mut unacknowledged = 0;
        for report in self.gather(ReportKind::End)? {
            unacknowledged += report.unacknowledged;
            self.total.add_late_answers(report.tally);
        }
        for mut worker in self.workers.drain(..) {
            worker.join()?;
        }
        let total = &self.total;
        let generator = GeneratorUsage {
            threads: narrow(shares.len()),
            connections: self.connections,
            cpu_s: shares.iter().map(|(cpu_ns, _)| float(*cpu_ns) / float(SECOND_NS)).sum(),
            cpu_share_max: shares.iter().map(|(cpu_ns, of_ns)| share(*cpu_ns, *of_ns)).fold(0.0, f64::max),
            late_p99_us: total.late.value_at_quantile(0.99),
            late_p999_us: total.late.value_at_quantile(0.999),
            late_max_us: total.late.max(),
        };
        Ok(LoadResult {
            seconds: float(ended_ns - self.began_ns) / float(SECOND_NS),
            offered_per_s: match self.plan.workload.rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::Max => None,
            },
            produced: total.produced,
            consumed: total.consumed,
            caught_up: total.caught_up,
            produce_latency: latency(&total.latencies)?,
            end_to_end_latency: latency(&total.end_to_end)?,
            windows: std::mem::take(&mut self.windows),
            generator,
            unacknowledged,
            errors: total.errors,
            first_error: total.first_error.clone(),
        })
    }

    /// One report of this kind from each thread. Seconds that were over before are for nobody once something else is
    /// awaited; they count all the same.
    fn gather(&mut self, kind: ReportKind) -> Result<Vec<Report>, Box<dyn Error>> {
        let mut reports = Vec::new();
        for index in 0..self.workers.len() {
            loop {
                let Ok(report) = self.workers[index].reports.recv() else { return Err(self.fault()) };
                if report.kind == kind {
                    reports.push(report);
                    break;
                }
                self.total.add(report.tally);
            }
        }
        Ok(reports)
    }

    /// Why a thread ended.
    fn fault(&mut self) -> Box<dyn Error> {
        for mut worker in self.workers.drain(..) {
            // One that has not ended is awaited by nobody; it ends when it is dropped.
            if worker.thread.as_ref().is_some_and(JoinHandle::is_finished)
                && let Err(why) = worker.join()
            {
                return why.into();
            }
        }
        "a thread of the load ended".into()
    }
}

impl Worker {
    fn start(
        plan: &Arc<Plan>,
        cpu: usize,
        team: Team,
        supply: Supply,
        start_ns: u64,
    ) -> Result<Worker, Box<dyn Error>> {
        let alarm = Arc::new(alarm()?);
        let (commands, commanded) = channel();
        let (reported, reports) = channel();
        let context = Context::new(Arc::clone(plan))?;
        let state = Thread::new(context, supply, team, start_ns, Arc::clone(&alarm), commanded, reported)?;
        let thread = std::thread::Builder::new().name(format!("load-{cpu}")).spawn(move || {
            if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
                return Err(format!("there is no CPU {cpu} for the generator"));
            }
            state.run()
        })?;
        Ok(Worker { thread: Some(thread), alarm, commands, reports })
    }

    /// Waits for the end of the thread.
    fn join(&mut self) -> Result<(), String> {
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| "a thread of the load panicked".to_owned())?,
            None => Ok(()),
        }
    }

    fn tell(&self, command: Command) -> Result<(), Box<dyn Error>> {
        // One that ended is found out by its reports, which say why.
        let _ = self.commands.send(command);
        rustix::io::write(&*self.alarm, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The thread sees that nobody commands it any more.
        let (nobody, _) = channel();
        self.commands = nobody;
        let _ = rustix::io::write(&*self.alarm, &1_u64.to_ne_bytes());
    }
}

/// Every producer and consumer has a connection to every leader: as many files as the machine allows.
fn raise_file_limit() -> std::io::Result<()> {
    let (_, hard) = rlimit::Resource::NOFILE.get()?;
    rlimit::Resource::NOFILE.set(hard, hard)
}

//! One thread of the load: pinned to a CPU, with an event loop over the connections of its producers and consumers.
//!
//! It sleeps until a connection has news or something is due, to the nanosecond, and never spins: its CPU time is what
//! the load costs. Once per second, and when it is told to begin or stop, it hands over what it counted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::time::{ClockId, clock_gettime};

use super::bounds::{DRAIN_NS, EVENTS_MAX};
use super::clock::{MICROSECOND_NS, SECOND_NS};
use super::connection::Connection;
use super::consumer::Consumer;
use super::context::Context;
use super::meter::Tally;
use super::producer::Producer;
use super::supply::Supply;
use crate::lab::number::wide;

/// What main tells a thread.
pub(super) enum Command {
    /// What counts starts at this moment.
    Begin { at_ns: u64 },
    /// Send nothing more, wait for what is unanswered, end.
    Stop,
}

/// What a thread hands over.
pub(super) struct Report {
    pub(super) kind: ReportKind,
    /// When it was made.
    pub(super) at_ns: u64,
    /// CPU time of the thread so far, in nanoseconds.
    pub(super) cpu_ns: u64,
    /// Records that are due and not acknowledged.
    pub(super) unacknowledged: u64,
    /// Connections that are of no use any more.
    pub(super) broken: usize,
    pub(super) tally: Tally,
}

/// Why a report was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReportKind {
    /// A second is over.
    Second,
    /// What counts starts: this is what came before.
    Begin,
    /// Nothing more is sent from here on.
    Stop,
    /// Nothing more is awaited: this is what came after the stop.
    End,
}

/// Wakes a thread from main.
pub(super) fn alarm() -> std::io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Number of the alarm among the events; connections have theirs below.
const ALARM: u64 = u64::MAX;

/// The connection that an event is about.
#[derive(Clone, Copy)]
enum Source {
    Producer { producer: usize, link: usize },
    Consumer { consumer: usize, link: usize },
}

/// Who works on one thread.
#[derive(Default)]
pub(super) struct Team {
    pub(super) producers: Vec<Producer>,
    pub(super) consumers: Vec<Consumer>,
}

impl Team {
    /// Everyone's connections.
    pub(super) fn connections(&self) -> usize {
        let of_producers = self.producers.iter().flat_map(Producer::connections).count();
        of_producers + self.consumers.iter().flat_map(Consumer::connections).count()
    }
}

/// The state of the loop.
pub(super) struct Thread {
    context: Context,
    supply: Supply,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    sources: Vec<Source>,
    /// Sources that have more to read, of which no event will tell.
    unread: Vec<usize>,
    epoll: OwnedFd,
    alarm: Arc<OwnedFd>,
    commands: Receiver<Command>,
    reports: Sender<Report>,
    /// Who is due when. An entry that its owner has overtaken is skipped.
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    /// When the current second is over.
    second_ns: u64,
    /// When nothing is awaited any more, once it was told to stop.
    end_ns: Option<u64>,
}

impl Thread {
    pub(super) fn new(
        context: Context,
        supply: Supply,
        Team { producers, consumers }: Team,
        start_ns: u64,
        alarm: Arc<OwnedFd>,
        commands: Receiver<Command>,
        reports: Sender<Report>,
    ) -> std::io::Result<Thread> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*alarm, EventData::new_u64(ALARM), EventFlags::IN)?;
        let mut thread = Thread {
            context,
            supply,
            timers: BinaryHeap::new(),
            producers,
            consumers,
            sources: Vec::new(),
            unread: Vec::new(),
            epoll,
            alarm,
            commands,
            reports,
            second_ns: start_ns + SECOND_NS,
            end_ns: None,
        };
        thread.watch_all()?;
        for actor in 0..thread.producers.len() + thread.consumers.len() {
            thread.arm(actor);
        }
        Ok(thread)
    }

    /// Asks for the events of every connection.
    fn watch_all(&mut self) -> std::io::Result<()> {
        let mut watch = |connection: &Connection, source| {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, connection.stream(), EventData::new_u64(wide(self.sources.len())), flags)?;
            self.sources.push(source);
            std::io::Result::Ok(())
        };
        for (producer, owner) in self.producers.iter().enumerate() {
            for (link, connection) in owner.connections().enumerate() {
                watch(connection, Source::Producer { producer, link })?;
            }
        }
        for (consumer, owner) in self.consumers.iter().enumerate() {
            for (link, connection) in owner.connections().enumerate() {
                watch(connection, Source::Consumer { consumer, link })?;
            }
        }
        Ok(())
    }

    /// Runs until it is told to stop and everything is answered.
    pub(super) fn run(mut self) -> Result<(), String> {
        // The kernel may delay a wake-up by this much to save power: not ours.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).map_err(|error| error.to_string())?;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let mut now_ns = self.now();
            self.on_time(now_ns)?;
            now_ns = self.now();
            if self.is_at_end(now_ns) {
                self.end(now_ns);
                return Ok(());
            }
            while now_ns >= self.second_ns {
                self.report(ReportKind::Second, self.second_ns);
                self.second_ns += SECOND_NS;
            }
            self.wait(now_ns, &mut events)?;
            for source in std::mem::take(&mut self.unread) {
                self.on_news(source, true, false)?;
            }
            for event in events.drain(..) {
                self.on_event(event)?;
            }
        }
    }

    fn now(&self) -> u64 {
        self.context.plan.clock.now()
    }

    /// Sleeps until there is news or something is due.
    fn wait(&self, now_ns: u64, events: &mut Vec<Event>) -> Result<(), String> {
        let due = self.timers.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        let wake_ns = if self.unread.is_empty() { due.min(self.second_ns) } else { now_ns };
        let sleep_ns = wake_ns.saturating_sub(now_ns);
        let timeout = Timespec {
            tv_sec: i64::try_from(sleep_ns / SECOND_NS).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(sleep_ns % SECOND_NS).unwrap_or(0),
        };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(format!("epoll: {error}")),
        }
    }

    /// Lets everyone act whose time has come.
    fn on_time(&mut self, now_ns: u64) -> Result<(), String> {
        while let Some(Reverse((due_ns, actor))) = self.timers.peek().copied() {
            if due_ns > now_ns {
                break;
            }
            self.timers.pop();
            if self.wake_ns(actor) == due_ns {
                self.on_due(actor, due_ns, now_ns)?;
            }
        }
        Ok(())
    }

    /// Lets an actor act, producers first, and notes how late a producer was called.
    fn on_due(&mut self, actor: usize, due_ns: u64, now_ns: u64) -> Result<(), String> {
        match self.producers.get_mut(actor) {
            Some(producer) => {
                let taken = producer.advance(now_ns, &mut self.supply, &mut self.context);
                let late_us = (now_ns - due_ns) / MICROSECOND_NS;
                self.context.tally.late.saturating_record_n(late_us.max(1), taken);
            }
            None => self.consumers[actor - self.producers.len()].advance(now_ns, &mut self.context)?,
        }
        self.arm(actor);
        Ok(())
    }

    /// When an actor wants to be called.
    fn wake_ns(&self, actor: usize) -> u64 {
        match self.producers.get(actor) {
            Some(producer) => producer.wake_ns,
            None => self.consumers[actor - self.producers.len()].wake_ns,
        }
    }

    fn arm(&mut self, actor: usize) {
        let wake_ns = self.wake_ns(actor);
        if wake_ns != u64::MAX {
            self.timers.push(Reverse((wake_ns, actor)));
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), String> {
        let number = event.data.u64();
        if number == ALARM {
            return self.on_alarm();
        }
        let flags = event.flags;
        let readable = flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let writable = flags.contains(EventFlags::OUT);
        self.on_news(usize::try_from(number).expect("it was given as an index"), readable, writable)
    }

    /// Lets the owner of a connection read or write.
    fn on_news(&mut self, source: usize, readable: bool, writable: bool) -> Result<(), String> {
        let has_more = match self.sources[source] {
            Source::Producer { producer: index, link } => {
                let producer = &mut self.producers[index];
                let wake_ns = producer.wake_ns;
                producer.on_event(link, readable, writable, &mut self.context);
                producer.advance(self.context.plan.clock.now(), &mut self.supply, &mut self.context);
                let has_more = producer.connection(link).has_more();
                if producer.wake_ns != wake_ns {
                    self.arm(index);
                }
                has_more
            }
            Source::Consumer { consumer: index, link } => {
                let consumer = &mut self.consumers[index];
                let wake_ns = consumer.wake_ns;
                consumer.on_event(link, readable, writable, &mut self.context)?;
                consumer.advance(self.context.plan.clock.now(), &mut self.context)?;
                let has_more = consumer.connection(link).is_some_and(Connection::has_more);
                if consumer.wake_ns != wake_ns {
                    self.arm(self.producers.len() + index);
                }
                has_more
            }
        };
        if has_more && !self.unread.contains(&source) {
            self.unread.push(source);
        }
        Ok(())
    }

    fn on_alarm(&mut self) -> Result<(), String> {
        // Its count does not matter, only that it is 0 again.
        let _ = rustix::io::read(&*self.alarm, &mut [0; 8]);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Begin { at_ns }) => {
                    self.report(ReportKind::Begin, at_ns);
                    self.second_ns = at_ns + SECOND_NS;
                }
                Ok(Command::Stop) => self.stop(),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err("main is gone".to_owned()),
            }
        }
    }

    fn stop(&mut self) {
        let now_ns = self.now();
        for producer in &mut self.producers {
            producer.stop(now_ns, &mut self.supply, &mut self.context);
        }
        self.timers.clear();
        self.report(ReportKind::Stop, now_ns);
        let end_ns = now_ns + DRAIN_NS;
        self.end_ns = Some(end_ns);
        self.second_ns = end_ns;
    }

    fn is_at_end(&self, now_ns: u64) -> bool {
        self.end_ns.is_some_and(|end_ns| now_ns >= end_ns || self.producers.iter().all(Producer::is_settled))
    }

    fn end(&mut self, now_ns: u64) {
        for producer in &mut self.producers {
            producer.give_up(now_ns, &mut self.context);
        }
        self.report(ReportKind::End, now_ns);
    }

    /// Hands over what was counted since the last report.
    fn report(&mut self, kind: ReportKind, at_ns: u64) {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu_ns = u64::try_from(cpu.tv_sec).unwrap_or(0) * SECOND_NS + u64::try_from(cpu.tv_nsec).unwrap_or(0);
        let now_ns = self.now();
        let unacknowledged = self.producers.iter().map(|producer| producer.unacknowledged(now_ns)).sum();
        let broken = self.producers.iter().map(Producer::broken_count).sum::<usize>()
            + self.consumers.iter().map(Consumer::broken_count).sum::<usize>();
        let tally = std::mem::replace(&mut self.context.tally, Tally::new());
        // Main may be gone: then the next command fails, which ends this thread.
        let _ = self.reports.send(Report { kind, at_ns, cpu_ns, unacknowledged, broken, tally });
    }
}

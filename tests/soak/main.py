"""The soak: one broker under everything at once, for a chosen time.

What goes on all the while: producers with every codec, acks=all and acks=1, idempotent and not, keyed and not, to topics
that are *written* and *flushed*, kept for ever, for a time, up to a size, and trimmed; a reader at the tail of all of them
and one from the start; a classic and a KIP-848 group whose members join, leave and are killed; topics that come and go
under the same names. What is done to the broker, in an order drawn from the seed: kill -9 under load and while it starts,
SIGSTOP, a clean restart, hostile peers, and (as root, on a disk of its own) a disk without a free byte and one that stalls. After each, producers
must go on by themselves and memory, descriptors, threads and disk be within their bounds (bounds.py). The second half of the
time is one life of the broker, so that a leak has time to show. At the end it is killed once more, everything is read and
held against the ledger (records.py), then stopped in order, and read again.

The broker has two shards. The first keeps what nobody may take (also the metadata and the commits of groups), the second
only what retention or deletion takes soon, so its segments must be used over and over.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import threading
import time
import traceback

import bounds
import checks
import churn
import hostile
import members
import producers
import readers
import records
import stage as stages
from checks import Violated
from producers import Load

HEALED = "after a full disk everything goes on by itself"
REFUSED = "a full disk refuses produce with KAFKA_STORAGE_ERROR, not with silence"
FREEING = "on a full disk reads, deletions and altered configurations work"
RETAINED = "retention by size leaves at least that size"
STALLED = "what was asked again while the disk stalled happens once"
DISK_CHECKS = [HEALED, REFUSED, FREEING, STALLED]

FOREVER = str((1 << 63) - 1)
RETENTION_MS = 30_000
RETENTION_BYTES = 4 << 20
# At most so much of the size of a log is not values: a batch's header for each record, and what a record has beside its value.
RECORD_BESIDE_BYTES = 61 + 40
PARTITIONS = 3
# Each takes room for good from the shard that keeps everything.
FILLS_MAX = 4
# Sizes of records that fill up what is left, so that in the end not even a commit of a group finds room.
FILLER_BYTES = [256 * 1024, 16 * 1024, 256]
PROGRESS_SECONDS = 10

# Topic: (shard, configuration).
TOPICS = {
    "time-written": (1, {"flush.messages": FOREVER, "retention.ms": str(RETENTION_MS)}),
    "time-flushed": (1, {"flush.messages": "1", "retention.ms": str(RETENTION_MS)}),
    "size-written": (1, {"flush.messages": FOREVER, "retention.ms": "-1", "retention.bytes": str(RETENTION_BYTES)}),
    "size-flushed": (1, {"flush.messages": "1", "retention.ms": "-1", "retention.bytes": str(RETENTION_BYTES)}),
    "kept-written": (0, {"flush.messages": FOREVER, "retention.ms": "-1"}),
    "kept-flushed": (0, {"flush.messages": "1", "retention.ms": "-1"}),
    "trimmed": (0, {"flush.messages": "1", "retention.ms": "-1"}),
}

LOADS = [
    Load("time-written", 80, 8192, acks="1", idempotent=False, codec="lz4"),
    Load("time-written", 80, 8192, codec="zstd"),
    Load("time-flushed", 80, 8192, codec="snappy", keyed=True),
    Load("time-flushed", 80, 8192, acks="1", idempotent=False),
    Load("size-written", 60, 16384),
    Load("size-flushed", 60, 16384, acks="1", idempotent=False, codec="gzip"),
    Load("kept-written", 50, 1024, acks="1", idempotent=False, codec="zstd"),
    Load("kept-written", 50, 1024, codec="gzip", keyed=True),
    Load("kept-flushed", 100, 512, keyed=True),
    Load("kept-flushed", 50, 512, acks="1", idempotent=False, codec="snappy"),
    Load("trimmed", 100, 256, codec="lz4"),
]


class Soak:
    def __init__(self, options):
        self.options = options
        self.checks = checks.Checks()
        self.random = random.Random(f"{options.seed} phases")
        self.checks.declare([*readers.NAMES, producers.ACKNOWLEDGED, producers.DELIVERED, producers.PROGRESS, *members.NAMES, RETAINED, *DISK_CHECKS])
        # So much that only a fill fills it: each takes up to six segments from the first shard for good, and two shards share it.
        self.stage = stages.Stage(self.checks, options.data, 4096 + 2 * options.seconds)
        self.began = time.monotonic()
        self.ledger = records.Ledger()
        self.filling = records.Filling(options.seed)
        self.bounds = bounds.Bounds(self.stage, self.checks)
        self.stage.on_start.append(self.bounds.on_start)
        self.done = dict.fromkeys(["fills", "stalls", "pauses", "hostile crowds"], 0)
        self.producers, self.groups = [], []
        self.churn = self.trimmer = self.from_start = None
        self.stopping = threading.Event()
        self.fatal = None
        if self.stage.disk is None:
            for name in DISK_CHECKS:
                self.checks.skip(name, "not root: a disk of its own cannot be mounted")

    # The play.

    def run(self):
        threading.excepthook = self.on_thread_failure
        self.set_up()
        threading.Thread(target=self.watch, daemon=True).start()
        threading.Thread(target=self.report_progress, daemon=True).start()
        self.after("the start")
        half, whole = self.began + self.options.seconds / 2, self.began + self.options.seconds
        phases = [self.kill, self.pause, self.restart, self.crowd]
        if self.stage.disk:
            phases += [self.fill, self.stall]
        turn = list(phases)
        self.random.shuffle(turn)
        while turn or time.monotonic() < half:
            self.play(turn.pop() if turn else self.random.choice(phases))
        # One life from here on.
        turn = [self.crowd, self.pause]
        while turn or time.monotonic() < whole:
            self.play(turn.pop() if turn else self.random.choice([self.crowd, self.pause, self.quiet]))
        self.finish()

    def play(self, phase):
        if phase == self.fill and self.done["fills"] >= FILLS_MAX:
            phase = self.quiet
        self.steady(self.random.uniform(1, 4))
        print(f"{self.elapsed():6.1f} s: {phase.__doc__}", flush=True)
        phase()
        self.after(phase.__doc__)

    def after(self, when):
        producers.expect_progress(self.stage, self.checks, self.producers, f"after {when}")
        self.bounds.look(f"after {when}")

    def steady(self, seconds):
        """Lets time pass under load."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.fatal:
                raise self.fatal
            time.sleep(0.1)

    def set_up(self):
        stage = self.stage
        stage.start()
        admin = stage.admin()
        brokers = admin.list_topics(timeout=30).brokers.values()
        nodes = [broker.id for broker in sorted(brokers, key=lambda broker: broker.port)]
        # The commits of groups stay for ever, so they belong with what is kept.
        churn.create_topic(stage, admin, "__consumer_offsets", 4, {"cleanup.policy": "compact"}, [[nodes[0]]] * 4)
        lives = {}
        for topic, (shard, config) in TOPICS.items():
            churn.create_topic(stage, admin, topic, PARTITIONS, config, [[nodes[shard]]] * PARTITIONS)
            limit = int(config["retention.ms"])
            lives[topic] = self.ledger.new_life(topic, limit if limit > 0 else None)
        self.admin, self.nodes, self.lives = admin, nodes, lives
        for index, load in enumerate(LOADS, 1):
            arguments = (self.options.seed, index, load, lives[load.topic], PARTITIONS)
            self.producers.append(producers.LoadProducer(stage, self.checks, self.ledger, self.filling, *arguments))
        self.tail = readers.TailReader(stage, self.checks, self.ledger, self.make_places())
        self.from_start = readers.StartReader(stage, self.checks, self.ledger, self.options.seed, self.make_places)
        trimmed = [place for place in self.make_places() if place.topic == "trimmed"]
        self.trimmer = readers.Trimmer(stage, self.checks, self.ledger, self.options.seed, trimmed)
        self.churn = churn.Churn(stage, self.checks, self.ledger, self.filling, self.options.seed)
        create = lambda name, partitions: churn.create_topic(stage, admin, name, partitions, {"retention.ms": "-1"}, [[nodes[0]]] * partitions)
        for protocol in ("cooperative", "consumer"):
            self.groups.append(members.GroupPlay(stage, self.checks, self.options.seed, protocol, create))
        for actor in [*self.producers, self.tail, self.from_start, self.trimmer, self.churn, *self.groups]:
            actor.start()

    def make_places(self):
        once = {topic: {p.index for p in self.producers if p.load.topic == topic and p.load.idempotent} for topic in TOPICS}
        return [readers.Place(topic, self.lives[topic], partition, once[topic]) for topic in TOPICS for partition in range(PARTITIONS)]

    # What is done to the broker. The first line of each says what, also on the screen.

    def kill(self):
        """kill -9"""
        for _ in range(self.random.randrange(1, 4)):
            self.steady(self.random.uniform(0.5, 4))
            while_starting = [self.random.uniform(0, 0.4) for _ in range(self.random.choice([0, 0, 1, 3]))]

            def between():
                for seconds in while_starting:
                    self.stage.kill_while_starting(seconds)

            self.stage.kill_and_start(between)

    def restart(self):
        """clean restart"""
        self.stage.stop_and_start()

    def pause(self):
        """SIGSTOP and SIGCONT"""
        with self.stage.held(), self.stage.outage():
            process = self.stage.broker.process
            process.send_signal(signal.SIGSTOP)
            try:
                time.sleep(self.random.uniform(1, 12))
            finally:
                process.send_signal(signal.SIGCONT)
        self.done["pauses"] += 1

    def crowd(self):
        """hostile peers"""
        ports = [self.stage.broker.port + shard for shard in range(stages.SHARDS)]
        crowd = hostile.Peers(self.options.seed, self.done["hostile crowds"], ports, self.stage.broker.http_port, "kept-flushed", PARTITIONS)
        try:
            crowd.come(self.random.randrange(70, 140))
            # All others are served beside them.
            producers.expect_progress(self.stage, self.checks, self.producers, "beside hostile peers")
            self.steady(self.random.uniform(1, 5))
        finally:
            crowd.close()
        self.done["hostile crowds"] += 1

    def quiet(self):
        """nothing but load"""
        self.steady(self.random.uniform(5, 10))

    def fill(self):
        """full disk and back"""
        stage, disk = self.stage, self.stage.disk
        churn.create_topic(stage, self.admin, "spare", 1, {"retention.ms": "-1"}, [[self.nodes[0]]])
        churn.create_topic(stage, self.admin, "filler", stages.SHARDS, {"flush.messages": FOREVER, "retention.ms": "-1"}, [[node] for node in self.nodes])
        filler = Filler(self)
        with stage.outage():
            disk.fill_up(stage.broker.log_path)
            disk.fill()
            refused = filler.write_until_refused()
            self.checks.expect(REFUSED, refused, lambda: f"not on every shard: {filler}")
            # Much was appended in less than a second, and the broker may be killed now.
            self.bounds.sample()
            act = self.random.choice([None, stage.kill_and_start, stage.stop_and_start])
            if act:
                print(f"{self.elapsed():6.1f} s: {act.__doc__.split(',')[0]}, on the full disk", flush=True)
                try:
                    act()
                except Violated:
                    # Noted already. With space it must start.
                    disk.drain()
                    stage.start()
            self.use_full_disk()
            disk.drain()
        self.done["fills"] += 1
        self.bounds.on_fill()
        try:
            stage.wait_until(filler.is_taken_again, lambda: f"produce is taken again with {disk.free_bytes() >> 20} MiB free: {filler}")
            churn.delete_topic(stage, self.admin, "filler")
            self.checks.held(HEALED)
        except Violated as failure:
            self.checks.violated(HEALED, str(failure))
            with contextlib.suppress(Violated):
                churn.delete_topic(stage, self.admin, "filler")

    def stall(self):
        """disk that stalls"""
        stage = self.stage
        churn.create_topic(stage, self.admin, "stalled", 1, {"retention.ms": "-1"}, [[self.nodes[0]]])
        # Longer than any client or broker waits for an answer, so that what was asked is asked again.
        end = time.monotonic() + self.random.uniform(11, 16)
        with stage.outage(), stage.disk.frozen():
            while time.monotonic() < end and not stage.ending.is_set():
                with contextlib.suppress(churn.KafkaException, TimeoutError):
                    self.admin.delete_topics(["stalled"], request_timeout=5, operation_timeout=5)["stalled"].result(5)
        self.done["stalls"] += 1
        try:
            churn.delete_topic(stage, self.admin, "stalled", tries=1)
            self.checks.held(STALLED)
        except Violated as failure:
            self.checks.violated(STALLED, str(failure))
        # What it wrote down is read when it starts.
        self.random.choice([stage.kill_and_start, stage.stop_and_start])()

    def use_full_disk(self):
        """What must work without space: reading, and what gives space back."""
        failures = []
        deadline = time.monotonic() + stages.PATIENCE_SECONDS

        def attempt(what, act):
            while True:
                try:
                    return act()
                except Exception as failure:
                    if time.monotonic() > deadline or self.stage.ending.is_set():
                        failures.append(f"{what}: {failure}")
                        return None
                    time.sleep(0.5)

        reader = readers.Reader(self.stage, self.checks, self.ledger)
        place = next(p for p in self.make_places() if p.topic == "kept-flushed")
        read = attempt("read", lambda: reader.consumer.get_watermark_offsets(readers.TopicPartition(place.topic, 0), timeout=10))
        if read:
            place.next = read[0]
            reader.assign([place])
            attempt("fetch", lambda: self.fetch_one(reader, place))
        reader.close()
        config = {"retention.bytes": str(RETENTION_BYTES + self.done["fills"] + 1)}
        attempt("alter a configuration", lambda: self.alter("size-written", config))
        attempt("delete a topic", lambda: self.admin.delete_topics(["spare"], request_timeout=10)["spare"].result(15))
        status, text = attempt("/health", lambda: self.stage.broker.page("/health")) or (None, "")
        if status != 200:
            failures.append(f"/health: {status} {text}")
        self.checks.expect(FREEING, not failures, lambda: "; ".join(failures))
        if any(text.startswith("delete a topic") for text in failures):
            with contextlib.suppress(Violated):
                self.stage.disk.drain()
                churn.delete_topic(self.stage, self.admin, "spare")

    def fetch_one(self, reader, place):
        for message in reader.consumer.consume(100, timeout=5):
            if message.error() is None:
                reader.take(place, message)
                return
        raise Violated("no record comes")

    def alter(self, topic, config):
        entries = [churn.ConfigEntry(k, v, incremental_operation=churn.AlterConfigOpType.SET) for k, v in config.items()]
        resource = churn.ConfigResource(churn.ResourceType.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource], request_timeout=10)[resource].result(15)

    # The end.

    def finish(self):
        print(f"{self.elapsed():6.1f} s: the end: everything is read", flush=True)
        actors = [*self.producers, self.trimmer, self.churn, self.from_start, *self.groups]
        for actor in actors:
            actor.stopping.set()
        for actor in actors:
            actor.finish()
        self.tail.finish()
        self.stage.kill_and_start()
        self.read_everything("after the last kill -9")
        self.stage.stop_and_start()
        self.read_everything("after a clean stop")
        for topic, partition, log in self.ledger.logs():
            if topic.startswith("kept-"):
                text = lambda: f"{topic}-{partition} starts at {log.log_start}, is kept for ever"
                self.checks.expect(readers.LOG_START, log.log_start == 0, text)
            unread = log.counts()[2]
            text = lambda: f"{topic}-{partition}: {unread} acknowledged records between {log.log_start} and {log.end} were never read"
            self.checks.expect(readers.RECORDS, unread == 0, text)
            if topic.startswith(("time-", "size-")):
                text = lambda: f"{topic}-{partition} still starts at {log.log_start}: retention took nothing of {log.end}"
                self.checks.expect(bounds.DISK, log.log_start > 0, text)
        self.bounds.look("at the end")
        self.stopping.set()
        self.stage.stop()

    def read_everything(self, when):
        reader = readers.Reader(self.stage, self.checks, self.ledger)
        for place in self.make_places():
            before = reader.read_bytes + RECORD_BESIDE_BYTES * reader.read_records
            try:
                reader.read_through(place)
            except Violated as failure:
                self.checks.violated(readers.READABLE, f"{when}: {failure}")
                continue
            if place.topic == "size-written":
                kept = reader.read_bytes + RECORD_BESIDE_BYTES * reader.read_records - before
                text = lambda: f"{when}: {place} keeps {kept} bytes, retention.bytes is {RETENTION_BYTES}"
                self.checks.expect(RETAINED, kept >= RETENTION_BYTES, text)
        reader.close()

    # Beside the play.

    def on_thread_failure(self, failure):
        """A thread of ours died: nothing that follows would prove anything."""
        text = "".join(traceback.format_exception(failure.exc_type, failure.exc_value, failure.exc_traceback))
        self.fatal = self.fatal or Violated(f"{failure.thread.name} broke:\n{text}")
        # Whoever waits, waits in vain.
        self.stage.ending.set()

    def elapsed(self):
        return time.monotonic() - self.began

    def watch(self):
        while not self.stopping.wait(1):
            try:
                self.stage.look_after()
                self.bounds.sample()
            except Exception as failure:
                self.fatal = failure
                # Whoever waits, waits in vain.
                self.stage.ending.set()
                return

    def report_progress(self):
        while not self.stopping.wait(PROGRESS_SECONDS):
            print(f"{self.elapsed():6.1f} s: {self.summary()}; {self.bounds.last}", flush=True)

    def summary(self):
        acknowledged, read = self.ledger.totals()
        counts = {
            "records acknowledged": acknowledged,
            "of them checked": read,
            "kills": self.stage.kills,
            "clean stops": self.stage.stops,
            **self.done,
            "topics churned": self.churn.topics if self.churn else 0,
            "DeleteRecords": self.trimmer.trims if self.trimmer else 0,
            "assignments of members": sum(group.rebalances for group in self.groups),
            "members killed": sum(group.deaths for group in self.groups),
            "passes from the start": self.from_start.passes if self.from_start else 0,
            "violations": self.checks.violations(),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items())

    def close(self, keep):
        self.stopping.set()
        self.stage.ending.set()
        for producer in self.producers:
            producer.give_up()
        for group in self.groups:
            group.stopping.set()
        self.stage.close(keep)


class Filler:
    """Writes to a partition on every shard, without trying again, until it is refused or taken again."""

    def __init__(self, soak):
        from confluent_kafka import Producer

        self.soak = soak
        self.stage = soak.stage
        config = {"acks": "1", "message.send.max.retries": 0, "message.timeout.ms": 30_000, "linger.ms": 0, "log_level": 0}
        self.producer = Producer({"bootstrap.servers": self.stage.bootstrap, "queue.buffering.max.kbytes": 65_536, **config})
        self.data = soak.random.randbytes(FILLER_BYTES[0])
        self.last = {}  # partition: the last answer, None for taken

    def __str__(self):
        return ", ".join(f"shard {p}: {e or 'taken'}" for p, e in sorted(self.last.items())) or "no answers"

    def ask(self, length):
        """Sends some records of a length to each partition and waits for all answers."""
        from confluent_kafka import KafkaException

        self.last = {}

        def note(error, message):
            self.last[message.partition()] = error

        for index in range(8 * stages.SHARDS):
            try:
                self.producer.produce("filler", self.data[:length], partition=index % stages.SHARDS, on_delivery=note)
            except (BufferError, KafkaException):
                break
        self.producer.flush(60)

    def write_until_refused(self):
        """Whether every shard refuses every size in the end, with the right word. What the cleaner gives back is taken, too."""
        deadline = time.monotonic() + 2 * stages.PATIENCE_SECONDS
        while time.monotonic() < deadline and not self.stage.ending.is_set():
            self.stage.disk.fill()
            if all(self._is_refused(length, deadline) for length in FILLER_BYTES):
                return True
        return False

    def _is_refused(self, length, deadline):
        """Whether every shard refuses a size soon. Where it does not there is room again, for larger ones too."""
        from confluent_kafka import KafkaError

        deadline = min(deadline, time.monotonic() + stages.PATIENCE_SECONDS / 6)
        while time.monotonic() < deadline and not self.stage.ending.is_set():
            self.ask(length)
            codes = {p: e.code() for p, e in self.last.items() if e}
            if len(codes) == stages.SHARDS and set(codes.values()) == {KafkaError.KAFKA_STORAGE_ERROR}:
                return True
        return False

    def is_taken_again(self):
        self.ask(FILLER_BYTES[0])
        return len(self.last) == stages.SHARDS and not any(self.last.values())


def interrupted(number, _):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    parser = argparse.ArgumentParser(prog="tests/soak/run", description="Drives one broker through everything, and checks it.")
    parser.add_argument("--seconds", type=int, default=120, metavar="N", help="how long (120); the end takes its time beside")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="the random choices of an earlier run")
    parser.add_argument("--data", default=os.path.join(stages.brokers.ROOT, "target", "tmp"), metavar="DIR", help="where its directory is made")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    print(f"tests/soak/run --seconds {options.seconds} --seed {options.seed}", flush=True)
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    try:
        soak = Soak(options)
    except Violated as failure:
        sys.exit(f"cannot begin: {failure}")
    failed, status = 1, 1
    try:
        try:
            soak.run()
            ended = None
        except Exception as failure:
            ended = str(failure) if isinstance(failure, Violated) else traceback.format_exc()
        print(soak.summary())
        passed, failed = soak.checks.report()
        if ended:
            failed += 1
            print(f"FAILED the soak comes to its end: {ended}")
        status = 1 if failed else 0
    except KeyboardInterrupt as signal_:
        print(f"ended by {signal_}")
        failed, status = soak.checks.violations(), 130
    finally:
        soak.close(keep=failed > 0)
    if status != 130:
        print(f"{passed} passed, {failed} failed", flush=True)
    # Threads of clients that wait for a broker which is gone do not hold the end up.
    os._exit(status)


if __name__ == "__main__":
    main()

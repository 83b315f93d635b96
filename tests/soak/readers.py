"""Readers that hold every record against the ledger: at the tail, and from the beginning to the end again and again.

Offsets follow each other without a gap, except where the broker says that the log now starts behind it. Neither the
start of a log nor its end ever goes back, and records of one idempotent producer come once and in order.
"""

import random
import threading

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import records
from checks import Violated
from stage import PATIENCE_SECONDS

RECORDS = "a record read is the one that was acknowledged there"
DENSE = "offsets have gaps only where retention or DeleteRecords made them"
ONCE = "records of an idempotent producer come once and in order"
LOG_START = "a log's start never goes back, and retention takes nothing young"
LOG_END = "a log's end never goes back"
READABLE = "readers get on"
NAMES = [RECORDS, DENSE, ONCE, LOG_START, LOG_END, READABLE]

# What a client gets over by itself.
PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
}


def consumer_config(stage):
    return {
        "bootstrap.servers": stage.bootstrap,
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
        "enable.partition.eof": False,
        "fetch.wait.max.ms": 200,
        "queued.max.messages.kbytes": 8192,
        "fetch.message.max.bytes": 262_144,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "log_level": 0,
    }


class Place:
    """A partition, and how far a reader has come in it."""

    def __init__(self, topic, life, partition, idempotent):
        self.topic, self.life, self.partition = topic, life, partition
        self.idempotent = idempotent  # producers whose records come once
        self.next = 0
        self.numbers = {}  # producer: greatest number read

    def __str__(self):
        return f"{self.topic}-{self.partition}"


class Reader:
    """One consumer without a group, and the rules."""

    def __init__(self, stage, checks, ledger):
        self.stage, self.checks, self.ledger = stage, checks, ledger
        self.consumer = Consumer(consumer_config(stage))
        self.read_bytes = 0  # of values
        self.read_records = 0
        self.last = None  # why the broker did not answer

    def bounds(self, place):
        """(log start, log end) as the broker tells now, when it can."""
        log = self.ledger.log(place.life, place.partition)
        known_end = log.end
        partition = TopicPartition(place.topic, place.partition)
        told = []

        def ask():
            try:
                told[:] = self.consumer.get_watermark_offsets(partition, timeout=5)
            except KafkaException as failure:
                told[:] = ()
                self.last = failure
            return bool(told)

        self.stage.wait_until(ask, lambda: f"{place}: the ends of the log are told: {self.last}")
        wrong = log.on_log_start(told[0], records.now_ms())
        self.checks.expect(LOG_START, wrong is None, lambda: f"{place}: {wrong}")
        text = lambda: f"{place}: ends at {told[1]}, records before {known_end} were acknowledged or read"
        self.checks.expect(LOG_END, told[1] >= known_end, text)
        return tuple(told)

    def take(self, place, message):
        """Judges one record, which is the next of its partition."""
        offset, data = message.offset(), message.value()
        if offset < place.next:
            self.checks.violated(DENSE, f"{place}: offset {offset} after {place.next - 1}")
            return
        if offset > place.next:
            self.explain(place, offset)
        else:
            self.checks.held(DENSE)
        place.next = offset + 1
        self.read_records += 1
        self.read_bytes += len(data or b"")
        told = records.parse(data)
        if told is None:
            self.checks.violated(RECORDS, f"{place} offset {offset}: not a record that was sent: {data[:40]!r}")
            return
        life, producer, number = told
        if life != place.life:
            self.checks.violated(RECORDS, f"{place} offset {offset}: of life {life} of a topic, this is life {place.life}")
            return
        log = self.ledger.log(place.life, place.partition)
        wrong = log.on_read(offset, records.checksum(message.key(), data))
        self.checks.expect(RECORDS, wrong is None, lambda: f"{place}: {wrong}")
        if producer in place.idempotent:
            before = place.numbers.get(producer, -1)
            text = lambda: f"{place} offset {offset}: number {number} of producer {producer} after {before}"
            self.checks.expect(ONCE, number > before, text)
            place.numbers[producer] = number

    def explain(self, place, offset):
        """The records from `place.next` to `offset` did not come."""
        log_start, _ = self.bounds(place)
        text = lambda: f"{place}: {place.next} to {offset - 1} are missing, the log starts at {log_start}"
        self.checks.expect(DENSE, log_start >= offset, text)

    def go_to_start(self, place):
        """The broker says that `place.next` is not in the log."""
        start, end = self.bounds(place)
        place.next = max(start, min(place.next, end))

    def on_error(self, error, places):
        """What a fetch failed with. Returns whether the places must be assigned again."""
        code = error.code()
        if code in PASSING:
            return False
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            for place in places:
                self.go_to_start(place)
            return True
        self.checks.violated(READABLE, f"{', '.join(map(str, places))}: {error}")
        return True

    def assign(self, places):
        self.consumer.assign([TopicPartition(p.topic, p.partition, p.next) for p in places])

    def read_range(self, place, end):
        """Reads from `place.next` up to `end`, which the broker told."""
        self.assign([place])
        patience = self.stage.serving_time
        last = patience()
        while place.next < end:
            for message in self.consumer.consume(min(500, end - place.next), timeout=0.5):
                if message.error():
                    if self.on_error(message.error(), [place]):
                        self.assign([place])
                        # What was fetched before counts no more, and is fetched again where it still is.
                        break
                    continue
                self.take(place, message)
                last = patience()
            if self.stage.ending.is_set():
                break
            if patience() - last > PATIENCE_SECONDS:
                self.checks.violated(READABLE, f"{place}: no record at {place.next} for {PATIENCE_SECONDS} s, the log ends at {end}")
                break
            if patience() - last > 5:
                # Retention may have taken all that was there.
                before = place.next
                self.go_to_start(place)
                if place.next >= end:
                    break
                if place.next > before:
                    # What was fetched from where it stood counts no more.
                    self.assign([place])
        else:
            self.checks.held(READABLE)
        self.consumer.unassign()

    def read_through(self, place):
        """From the log's start to the end that it has now."""
        place.next, end = self.bounds(place)
        self.read_range(place, end)
        return end

    def close(self):
        self.consumer.close()


class TailReader(threading.Thread):
    """Follows all partitions from their first record on."""

    def __init__(self, stage, checks, ledger, places):
        super().__init__(name="tail reader", daemon=True)
        self.reader = Reader(stage, checks, ledger)
        self.places = {(p.topic, p.partition): p for p in places}
        self.stage, self.checks = stage, checks
        self.stopping = threading.Event()

    def run(self):
        reader, places = self.reader, list(self.places.values())
        reader.assign(places)
        while not self.stopping.is_set():
            again = False
            for message in reader.consumer.consume(1000, timeout=0.3):
                if again:
                    # Fetched before the places moved. It is fetched again where it still is.
                    break
                if message.error() is None:
                    reader.take(self.places[message.topic(), message.partition()], message)
                    continue
                place = self.places.get((message.topic(), message.partition()))
                try:
                    again |= reader.on_error(message.error(), [place] if place else places)
                except Violated as failure:
                    self.checks.violated(READABLE, f"at the tail: {failure}")
                    again = True
            if again:
                reader.assign(places)

    def finish(self):
        """After the producers have ended: it comes to the end of every partition."""
        ends = {place: self.reader.ledger.log(place.life, place.partition).end for place in self.places.values()}

        def behind():
            return [f"{place} at {place.next} of {end}" for place, end in ends.items() if place.next < end]

        try:
            self.stage.wait_until(lambda: not behind(), "the reader at the tail comes to the end")
            self.checks.held(READABLE)
        except Violated as failure:
            self.checks.violated(READABLE, f"{failure}: {behind()}")
        self.stopping.set()
        self.join()
        self.reader.close()


class StartReader(threading.Thread):
    """Reads one partition after the other from its start: old data, from the disk."""

    def __init__(self, stage, checks, ledger, seed, make_places):
        super().__init__(name="reader from the start", daemon=True)
        self.reader = Reader(stage, checks, ledger)
        self.stage, self.checks = stage, checks
        self.random = random.Random(f"{seed} reader")
        self.make_places = make_places
        self.stopping = threading.Event()
        self.passes = 0

    def run(self):
        while not self.stopping.wait(0.2):
            place = self.random.choice(self.make_places())
            try:
                self.reader.read_through(place)
                self.passes += 1
            except Violated as failure:
                if not self.stage.ending.is_set():
                    self.checks.violated(READABLE, f"from the start: {failure}")

    def finish(self):
        self.stopping.set()
        self.join()
        self.reader.close()


class Trimmer(threading.Thread):
    """DeleteRecords now and then: the log then starts where it was told to, and nowhere else."""

    NAME = "DeleteRecords moves the log's start to where it was told, for good"

    def __init__(self, stage, checks, ledger, seed, places):
        super().__init__(name="trimmer", daemon=True)
        checks.declare([self.NAME])
        self.stage, self.checks, self.ledger, self.places = stage, checks, ledger, places
        self.random = random.Random(f"{seed} trimmer")
        self.admin = stage.admin()
        self.stopping = threading.Event()
        self.starts = {place: 0 for place in places}
        self.trims = 0

    def run(self):
        reader = Reader(self.stage, self.checks, self.ledger)
        while not self.stopping.wait(self.random.uniform(1, 4)):
            place = self.random.choice(self.places)
            try:
                self.trim(reader, place)
            except Violated as failure:
                if not self.stage.ending.is_set():
                    self.checks.violated(self.NAME, str(failure))
        reader.close()

    def trim(self, reader, place):
        start, end = reader.bounds(place)
        before = self.starts[place]
        self.checks.expect(self.NAME, start == before, lambda: f"{place} starts at {start}, was told {before}")
        wanted = start + (end - start) * self.random.randrange(1, 10) // 10
        partition = TopicPartition(place.topic, place.partition, wanted)
        last = []

        def ask():
            try:
                last[:] = [self.admin.delete_records([partition], request_timeout=10)[partition].result(15).low_watermark]
                return True
            except (KafkaException, TimeoutError) as failure:
                last[:] = [failure]
                return False

        self.stage.wait_until(ask, lambda: f"{place}: records before {wanted} of {start} to {end} are deleted: {last}")
        self.checks.expect(self.NAME, last == [wanted], lambda: f"{place} starts at {last}, was told {wanted}")
        self.starts[place] = wanted
        self.trims += 1

    def finish(self):
        self.stopping.set()
        self.join()



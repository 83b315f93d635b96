"""Records that prove themselves, and the ledger of what was acknowledged and read.

A value: life of the topic (4 bytes), producer (4), number (8), filling, CRC-32 of all before it (4). The *life* is a number
given to one life of one topic and never again, so a record in a topic that was deleted and made anew gives itself away.
"""

import array
import random
import struct
import threading
import time
import zlib

HEAD = struct.Struct(">IIQ")
TAIL = struct.Struct(">I")
# What fillings are cut from: half of it is noise, half compresses.
POOL_BYTES = 1 << 20


class Filling:
    def __init__(self, seed):
        source = random.Random(f"{seed} filling")
        noise = source.randbytes(POOL_BYTES // 64)
        words = b" ".join(source.choice((b"lane", b"core", b"log", b"block", b"batch")) for _ in range(4096))
        pieces = []
        while sum(map(len, pieces)) < POOL_BYTES:
            at = source.randrange(len(noise) - 512)
            pieces.append(noise[at : at + 512])
            at = source.randrange(len(words) - 512)
            pieces.append(words[at : at + 512])
        self.pool = b"".join(pieces)

    def cut(self, source, length):
        at = source.randrange(len(self.pool) - length)
        return self.pool[at : at + length]


def value(life, producer, number, filling):
    body = HEAD.pack(life, producer, number) + filling
    return body + TAIL.pack(zlib.crc32(body))


def parse(data):
    """(life, producer, number), or None for what was never sent like that."""
    if data is None or len(data) < HEAD.size + TAIL.size:
        return None
    if zlib.crc32(data[: -TAIL.size]) != TAIL.unpack_from(data, len(data) - TAIL.size)[0]:
        return None
    return HEAD.unpack_from(data)


def checksum(key, data):
    """Of key and value, never 0: that stands for "not known"."""
    return zlib.crc32(data, zlib.crc32(key or b"")) or 1


class Log:
    """What is known of one partition of one life of a topic."""

    def __init__(self, retention_ms):
        self.lock = threading.Lock()
        self.sums = array.array("I")  # by offset
        self.states = bytearray()  # by offset: 1 acknowledged, 2 read, 3 both
        self.log_start = 0  # the greatest that the broker told
        self.end = 0  # offset after the greatest acknowledged or read
        self.retention_ms = retention_ms
        self.samples = []  # (offset, timestamp) of some of the acknowledged records

    def _grow(self, offset):
        short = offset + 1 - len(self.sums)
        if short > 0:
            room = max(short, 1024)
            self.sums.extend([0] * room)
            self.states.extend(bytes(room))

    def on_acknowledged(self, offset, sum_, timestamp_ms):
        """None, or what is wrong."""
        with self.lock:
            self._grow(offset)
            known, state = self.sums[offset], self.states[offset]
            self.sums[offset] = sum_
            self.states[offset] = state | 1
            self.end = max(self.end, offset + 1)
            if offset % 32 == 0 and self.retention_ms is not None:
                self.samples.append((offset, timestamp_ms))
        if state & 1:
            return f"offset {offset} was acknowledged twice"
        if known not in (0, sum_):
            return f"offset {offset} was read before it was acknowledged, as another record"
        return None

    def on_read(self, offset, sum_):
        """None, or what is wrong."""
        with self.lock:
            self._grow(offset)
            known = self.sums[offset]
            if known == 0:
                self.sums[offset] = sum_
            self.states[offset] |= 2
            self.end = max(self.end, offset + 1)
        if known not in (0, sum_):
            return f"offset {offset} is not the record that was acknowledged or read there"
        return None

    def on_log_start(self, log_start, asked_after_ms):
        """None, or why the log may not start there. `asked_after_ms` is the wall clock after the broker answered."""
        with self.lock:
            before = self.log_start
            self.log_start = max(before, log_start)
            if log_start < before:
                return f"the log starts at {log_start}, started at {before}"
            if self.retention_ms is not None:
                # A record goes with those around it, when the youngest of them has outlived the limit.
                young = [s for s in self.samples if s[0] < log_start and asked_after_ms - s[1] < self.retention_ms]
                self.samples = [s for s in self.samples if s[0] >= log_start]
                if young:
                    age = asked_after_ms - young[-1][1]
                    return f"offset {young[-1][0]} is gone at the age of {age} ms, retention.ms is {self.retention_ms}"
        return None

    def counts(self):
        """(acknowledged, of those read, acknowledged and not read though retention has left them)."""
        with self.lock:
            acknowledged = self.states.count(1) + self.states.count(3)
            both = self.states.count(3)
            unread = self.states.count(1, self.log_start)
        return acknowledged, both, unread


class Ledger:
    """All partitions that were ever written, and the lives of topics."""

    def __init__(self):
        self._lock = threading.Lock()
        self._logs = {}  # (life, partition): Log
        self._topics = {}  # life: (topic, retention_ms)
        self._lives = 0
        self._ended = [0, 0]  # acknowledged, and of those read, in lives that are over

    def new_life(self, topic, retention_ms=None):
        with self._lock:
            self._lives += 1
            self._topics[self._lives] = (topic, retention_ms)
            return self._lives

    def log(self, life, partition):
        with self._lock:
            log = self._logs.get((life, partition))
            if log is None:
                log = self._logs[life, partition] = Log(self._topics[life][1])
            return log

    def end_life(self, life):
        """The topic is deleted: only the numbers of its records are kept."""
        with self._lock:
            for key in [key for key in self._logs if key[0] == life]:
                acknowledged, both, _ = self._logs.pop(key).counts()
                self._ended[0] += acknowledged
                self._ended[1] += both

    def logs(self):
        with self._lock:
            return [(self._topics[life][0], partition, log) for (life, partition), log in self._logs.items()]

    def totals(self):
        """(records acknowledged, of those read and compared)."""
        counts = [log.counts() for _, _, log in self.logs()]
        acknowledged = self._ended[0] + sum(count[0] for count in counts)
        both = self._ended[1] + sum(count[1] for count in counts)
        return acknowledged, both


def now_ms():
    return int(time.time() * 1000)

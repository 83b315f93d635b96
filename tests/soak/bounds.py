"""What the broker may take of the machine, looked at after every disturbance. Each bound has a number and a reason; what is
above it is looked at again for a while, since memory and files are given back in the background.
"""

import os
import re
import time

from checks import Violated
from stage import MEMORY_MIB, MIB, SHARDS

MEMORY = "memory is bounded and flat"
COUNTED = "corelane_memory_bytes stays below its maximum"
DESCRIPTORS = "descriptors are bounded and flat"
THREADS = "threads are always the same"
DISK = "disk is bounded: what retention took is used again"
HEALTH = "/health answers 200"
WRITABLE = "no store becomes read-only"
NAMES = [MEMORY, COUNTED, DESCRIPTORS, THREADS, DISK, HEALTH, WRITABLE]

SEGMENT_MIB = 64
# An idle broker of two shards has 75 MiB: the program, and 32 MiB a shard registered for direct I/O.
RSS_IDLE_MIB = 80
# What `--memory` does not count: blocks kept ready (32), spare ones (16), the buffers that sockets are read into, partitions,
# groups, producers, and what the allocator holds back.
RSS_BESIDE_MIB = 64
RSS_MAX_MIB = RSS_IDLE_MIB + MEMORY_MIB + RSS_BESIDE_MIB
# Within one life, from the first look on: caches that fill up to `--memory` are in the bound above, so this is for the rest.
ADDRESS_SPACE_GROWTH_MAX_MIB = 512
# Live segments of a shard whose topics all have retention or are deleted soon: what is kept (30 s of about 4 MB/s, and
# topics that come and go) spans three with the open one. Then one kept ready, two after any number of crashes, and what was
# freed and waits to be used again, as much as a new broker reserves (256 MiB a shard).
RECYCLING_DISK_MAX_MIB = (3 + 1 + 2 + 4) * SEGMENT_MIB
# On the shard of what is kept for ever every byte appended stays; beside it as above, without the three.
KEPT_BESIDE_MAX_MIB = (1 + 1 + 2 + 4) * SEGMENT_MIB
# A full disk is filled with records of a topic that is deleted then. The files that they took are free, and kept in case
# that as much comes again, until they were not needed for a quarter of an hour of one life.
FILLED_MORE_MIB = 6 * SEGMENT_MIB
FREE_FILES_KEPT_SECONDS = 15 * 60 + 60
# Descriptors that are neither sockets nor segments: rings, pipes, the directory's lock.
OTHER_DESCRIPTORS_GROWTH_MAX = 4
# Connections beside those of the soak's own clients that are open when nobody hostile is.
CONNECTIONS_MAX = 200


class Look:
    """What is seen at one moment."""

    def __init__(self, stage):
        pid = stage.broker.process.pid
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        self.rss_mib = int(fields["VmRSS"].split()[0]) / 1024
        self.address_space_mib = int(fields["VmSize"].split()[0]) / 1024
        self.threads = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/comm") as name:
                self.threads.append(name.read().strip())
        # The kernel's own workers come and go with the load.
        self.threads = sorted(name for name in self.threads if not name.startswith("iou-"))
        kinds = {"socket": 0, "segment": 0, "other": 0}
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            except FileNotFoundError:
                continue
            kind = "socket" if target.startswith("socket:") else "segment" if "/segment-" in target else "other"
            kinds[kind] += 1
        self.descriptors = kinds
        self.disk_mib = [directory_mib(os.path.join(stage.data, f"shard-{shard}")) for shard in range(SHARDS)]
        self.metrics = read_metrics(stage.broker)

    def metric(self, name, shard=None):
        rows = self.metrics[name]
        return sum(rows) if shard is None else rows[shard]

    def __str__(self):
        kinds = "+".join(str(count) for count in self.descriptors.values())
        return f"rss {self.rss_mib:.0f} MiB, {kinds} descriptors, {len(self.threads)} threads, disk {self.disk_mib} MiB"


def directory_mib(path):
    total = 0
    for entry in os.scandir(path):
        try:
            total += entry.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total // MIB


def read_metrics(broker):
    """Plain metrics: a list by shard under each name."""
    _, text = broker.page("/metrics")
    rows = {}
    for name, shard, value in re.findall(r'^(\w+)\{shard="(\d+)"\} (\S+)$', text, re.MULTILINE):
        rows.setdefault(name, {})[int(shard)] = float(value)
    return {name: [by_shard[shard] for shard in sorted(by_shard)] for name, by_shard in rows.items()}


class Bounds:
    def __init__(self, stage, checks):
        self.stage, self.checks = stage, checks
        checks.declare(NAMES)
        self.threads = None
        self.other_descriptors = None
        self.life_began = None  # the first look at this life
        self.filled = None  # when the disk was full, or the life began that found what that left
        self.appended = [0] * SHARDS  # bytes by earlier lives
        self.appended_now = [0] * SHARDS
        self.last = None

    def on_start(self):
        """A new life of the broker."""
        self.appended = [before + now for before, now in zip(self.appended, self.appended_now)]
        self.appended_now = [0] * SHARDS
        self.life_began = None
        if self.filled is not None:
            self.filled = time.monotonic()

    def on_fill(self):
        """The disk was full."""
        self.filled = time.monotonic()

    def sample(self):
        """Notes how much was appended, before the life may end. Called every second."""
        try:
            rows = read_metrics(self.stage.broker)
            self.appended_now = [int(bytes_) for bytes_ in rows["corelane_log_appended_bytes"]]
        except (OSError, KeyError):
            # It is down or busy; the next second tells.
            pass

    def too_much(self):
        """[(check, text)] of what is beyond its bound now."""
        try:
            look = Look(self.stage)
        except (OSError, KeyError, IndexError) as failure:
            return [(HEALTH, f"cannot be looked at: {failure!r}")]
        self.last = look
        self.appended_now = [int(bytes_) for bytes_ in look.metrics["corelane_log_appended_bytes"]]
        self.threads = self.threads or look.threads
        if self.other_descriptors is None:
            self.other_descriptors = look.descriptors["other"]
        self.life_began = self.life_began or look
        found = []

        def bound(name, value, limit, what):
            if value > limit:
                found.append((name, f"{what}: {value:.0f}, bound {limit:.0f}"))

        bound(MEMORY, look.rss_mib, RSS_MAX_MIB, "resident MiB")
        space_max = self.life_began.address_space_mib + ADDRESS_SPACE_GROWTH_MAX_MIB
        bound(MEMORY, look.address_space_mib, space_max, "address space in MiB")
        for shard in range(SHARDS):
            counted, most = look.metric("corelane_memory_bytes", shard), look.metric("corelane_memory_bytes_max", shard)
            bound(COUNTED, counted, most, f"corelane_memory_bytes of shard {shard}")
        kinds = look.descriptors
        # One listener a shard and one for HTTP, and 16 connections to that.
        bound(DESCRIPTORS, kinds["socket"], look.metric("corelane_connections") + SHARDS + 1 + 16, "sockets")
        bound(DESCRIPTORS, look.metric("corelane_connections"), CONNECTIONS_MAX, "connections")
        segments = look.metric("corelane_segments") + look.metric("corelane_segments_free")
        # Beside those counted a shard has one kept ready, and one on its way from live to free.
        bound(DESCRIPTORS, kinds["segment"], segments + 4 * SHARDS, "segment files open")
        bound(DESCRIPTORS, kinds["other"], self.other_descriptors + OTHER_DESCRIPTORS_GROWTH_MAX, "other descriptors")
        if look.threads != self.threads:
            found.append((THREADS, f"{look.threads}, were {self.threads}"))
        appended_mib = (self.appended[0] + self.appended_now[0]) / MIB
        was_filled = self.filled is not None and time.monotonic() < self.filled + FREE_FILES_KEPT_SECONDS
        more_mib = FILLED_MORE_MIB if was_filled else 0
        bound(DISK, look.disk_mib[0], appended_mib + KEPT_BESIDE_MAX_MIB + more_mib, "MiB of the shard that keeps everything")
        bound(DISK, look.disk_mib[1], RECYCLING_DISK_MAX_MIB + more_mib, "MiB of the shard with retention")
        for shard in range(SHARDS):
            bound(WRITABLE, look.metric("corelane_store_read_only", shard), 0, f"shard {shard} is read-only")
        try:
            status, text = self.stage.broker.page("/health")
        except OSError as failure:
            status, text = None, repr(failure)
        if status != 200:
            found.append((HEALTH, f"{status} {text.strip()}"))
        return found

    def look(self, when):
        """After a disturbance: everything comes back within its bounds."""
        found = [None]

        def within():
            self.stage.look_after()
            found[0] = self.too_much()
            # What failed once is not waited for again.
            return all(self.checks.has_failed(name) for name, _ in found[0])

        try:
            self.stage.wait_until(within, "", pause=0.5)
        except Violated:
            pass
        wrong = found[0]
        for name, text in wrong:
            self.checks.violated(name, f"{when}: {text}")
        for name in NAMES:
            if all(name != other for other, _ in wrong):
                self.checks.held(name)

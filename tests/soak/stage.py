"""Where the soak plays: a directory, with root's help a disk of its own in a file, the broker, and the time it was out.

Whoever waits for the broker waits by `serving_time`, which stands still while the broker is down, stopped or out of space:
what is asked of it is asked for a time in which it could have answered.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "clients"))

import brokers  # noqa: E402
from checks import Violated  # noqa: E402

# The longest that anything may take which should happen at once: far beyond what a busy machine adds.
PATIENCE_SECONDS = 60
SESSION_MS = 8000
SHARDS = 2
MEMORY_MIB = 128
MIB = 1 << 20
# Broker lives that end by themselves before the soak gives up.
UNPLANNED_ENDS_MAX = 5

SETTINGS = [
    "auto.create.topics.enable=false",
    "log.retention.check.interval.ms=1000",
    f"group.consumer.min.session.timeout.ms={SESSION_MS}",
    f"group.consumer.session.timeout.ms={SESSION_MS}",
    "group.consumer.min.heartbeat.interval.ms=3000",
    "group.consumer.heartbeat.interval.ms=3000",
]

ENDS = "the broker ends only when it is told to"
STARTS = "the broker starts again after kill -9"
STOPS = "the broker obeys SIGTERM"


class Broker(brokers.Corelane):
    """`ready` is believed: whether it answers is what everything else here is about."""

    def __init__(self, directory, data):
        super().__init__(shards=SHARDS, settings=SETTINGS, directory=directory)
        self.arguments[self.arguments.index("--data") + 1] = data
        self.arguments += ["--memory", f"{MEMORY_MIB}MiB"]

    def wait_for_answers(self, seconds=60):
        pass

    def log_tail(self):
        return super().log_tail()[-1500:]

    def page(self, path):
        """(status, text) of a page of the HTTP endpoint."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()


class Disk:
    """An ext4 file system in a sparse file, mounted at `path`."""

    def __init__(self, directory, mib):
        self.image = os.path.join(directory, "disk.img")
        self.path = os.path.join(directory, "disk")
        self.ballast = os.path.join(self.path, "ballast")
        os.mkdir(self.path)
        with open(self.image, "wb") as image:
            image.truncate(mib * MIB)
        run("mkfs.ext4", "-q", "-m", "0", self.image)
        run("mount", "-o", "loop", self.image, self.path)

    def fill(self):
        """Takes all space that is left."""
        with open(self.ballast, "ab") as ballast:
            at = ballast.seek(0, os.SEEK_END)
            for step in (64 * MIB, MIB, 64 * 1024, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(ballast.fileno(), at, step)
                        at += step

    def fill_up(self, path):
        """Ends a file at the end of its last block, so that the next byte takes space."""
        with open(path, "ab") as file:
            file.write(b"\n" * (-file.seek(0, os.SEEK_END) % os.statvfs(path).f_bsize))

    def drain(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.ballast)

    @contextlib.contextmanager
    def frozen(self):
        """Whoever writes to it waits."""
        run("fsfreeze", "--freeze", self.path)
        try:
            yield
        finally:
            run("fsfreeze", "--unfreeze", self.path)

    def free_bytes(self):
        told = os.statvfs(self.path)
        return told.f_bavail * told.f_frsize

    def unmount(self):
        # Whoever was interrupted while it froze the disk may have left it so.
        subprocess.run(["fsfreeze", "--unfreeze", self.path], capture_output=True)
        for _ in range(50):
            if not os.path.ismount(self.path):
                return
            if subprocess.run(["umount", self.path], capture_output=True).returncode == 0:
                return
            # What the broker had in flight when it was killed ends first.
            time.sleep(0.2)
        print(f"cannot unmount {self.path}", flush=True)


class Stage:
    def __init__(self, checks, parent, disk_mib):
        self.checks = checks
        checks.declare([ENDS, STARTS, STOPS])
        os.makedirs(parent, exist_ok=True)
        self.directory = tempfile.mkdtemp(prefix="soak-", dir=parent)
        self.logs = os.path.join(self.directory, "logs")
        os.mkdir(self.logs)
        self.disk = None
        self.broker = None
        self.processes = []
        self._lock = threading.RLock()  # whoever holds it may start and end the broker
        self._is_meant_to_run = False
        self._clock_lock = threading.Lock()
        self._outages = 0
        self._outage_began = 0.0
        self._outage_seconds = 0.0
        self.kills = 0
        self.stops = 0
        self.unplanned_ends = 0
        self.on_start = []  # called after each start
        self.ending = threading.Event()
        if os.geteuid() == 0:
            try:
                self.disk = Disk(self.directory, disk_mib)
            except Violated:
                shutil.rmtree(self.directory, ignore_errors=True)
                raise
            self.data = os.path.join(self.disk.path, "data")
        else:
            self.data = os.path.join(self.directory, "data")
        os.mkdir(self.data)
        self.broker = Broker(self.directory, self.data)
        if self.disk:
            # Where a log often lies: a full disk must not be the end of one that has something to say about it.
            self.broker.log_path = os.path.join(self.disk.path, "log")

    @property
    def bootstrap(self):
        return ",".join(f"127.0.0.1:{self.broker.port + shard}" for shard in range(SHARDS))

    # Time.

    def serving_time(self):
        with self._clock_lock:
            now = time.monotonic()
            out = now - self._outage_began if self._outages else 0.0
            return now - self._outage_seconds - out

    @contextlib.contextmanager
    def outage(self):
        """While this lasts nobody's patience ends. Outages may overlap."""
        with self._clock_lock:
            if self._outages == 0:
                self._outage_began = time.monotonic()
            self._outages += 1
        try:
            yield
        finally:
            with self._clock_lock:
                self._outages -= 1
                if self._outages == 0:
                    self._outage_seconds += time.monotonic() - self._outage_began

    @property
    def is_out(self):
        return self._outages > 0

    def wait_until(self, condition, what, seconds=PATIENCE_SECONDS, pause=0.1):
        """Polls until `condition` gives something true, and returns it. `what` may be a function that tells more."""
        deadline = self.serving_time() + seconds
        while True:
            result = condition()
            if result:
                return result
            if self.serving_time() > deadline:
                raise Violated(f"not within {seconds} s: {what() if callable(what) else what}")
            if self.ending.is_set():
                raise Violated(f"the soak ended while waiting: {what() if callable(what) else what}")
            time.sleep(pause)

    # The broker.

    def start(self):
        with self._lock:
            began = time.monotonic()
            try:
                self.broker.start()
            except RuntimeError as failure:
                raise Violated(str(failure)) from None
            self._is_meant_to_run = True
            for call in self.on_start:
                call()
            return time.monotonic() - began

    def kill_and_start(self, between=lambda: None):
        """SIGKILL, and a start that must succeed. `between` is called while it is down."""
        with self._lock, self.outage():
            self._is_meant_to_run = False
            self.broker.kill()
            self.kills += 1
            between()
            try:
                seconds = self.start()
            except Violated as failure:
                self.checks.violated(STARTS, str(failure))
                raise
            self.checks.held(STARTS)
            return seconds

    def kill_while_starting(self, seconds):
        """A start that does not get far; the broker must be down already."""
        log = open(self.broker.log_path, "a")
        process = subprocess.Popen([*self.broker.command, *self.broker.arguments], stdout=subprocess.DEVNULL, stderr=log)
        log.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(seconds)
            self.checks.violated(STARTS, f"ended with {status} while it started:\n{self.broker.log_tail()}")
        process.kill()
        process.wait()
        self.kills += 1

    def stop_and_start(self):
        """SIGTERM, and a start that must succeed."""
        with self._lock, self.outage():
            self.stop()
            try:
                return self.start()
            except Violated as failure:
                self.checks.violated(STARTS, f"after a clean stop: {failure}")
                raise

    def stop(self):
        with self._lock:
            self._is_meant_to_run = False
            status = self.broker.stop()
            self.stops += 1
            self.checks.expect(STOPS, status == 0, lambda: f"status {status} after SIGTERM:\n{self.broker.log_tail()}")

    @contextlib.contextmanager
    def held(self):
        """Nobody else starts or ends the broker."""
        with self._lock:
            yield

    def look_after(self):
        """Starts the broker again when it ended by itself, which is a violation. Called again and again."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._is_meant_to_run:
                return
            status = self.broker.process.poll()
            if status is None:
                self.checks.held(ENDS)
                return
            self.unplanned_ends += 1
            with self.outage():
                self.checks.violated(ENDS, f"ended with {status}:\n{self.broker.log_tail()}")
                if self.unplanned_ends >= UNPLANNED_ENDS_MAX:
                    raise Violated("the broker ends by itself over and over")
                try:
                    self.start()
                except Violated as failure:
                    self.checks.violated(STARTS, f"after it ended by itself: {failure}")
                    if self.disk is None:
                        raise
                    self.disk.drain()
                    self.start()
        finally:
            self._lock.release()

    # Clients.

    def admin(self):
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def spawn(self, command, log, stdout=None, **options):
        """A process that goes away with the stage at the latest. What it prints is kept among the logs."""
        with open(os.path.join(self.logs, log + ".log"), "a") as out:
            process = subprocess.Popen(command, stdout=out if stdout is None else stdout, stderr=out, stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def end(self, process):
        """SIGTERM; returns the exit status."""
        process.terminate()
        self.wait_until(lambda: process.poll() is not None, f"process {process.args[-3]} ends after SIGTERM")
        return process.returncode

    # The end.

    def close(self, keep):
        """Ends all processes and gives the disk back. What is kept is printed."""
        self.ending.set()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.broker:
            # A stopped process is killed all the same.
            self.broker.kill()
        if keep and self.disk:
            self.disk.drain()
        if self.disk:
            self.disk.unmount()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        print(f"kept: {self.directory} (logs of groups and their members: logs/)")
        if self.disk:
            print(f"kept: the broker's log and data, in an image: mount -o loop {self.disk.image} {self.disk.path}")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Violated(f"{' '.join(command)}: {done.stderr.strip()}")

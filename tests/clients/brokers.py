"""Starts and ends the brokers under test: Corelane, or a real Apache Kafka to prove the tests and to compare with."""

import base64
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid

import wire

ROOT = os.path.dirname(os.path.dirname(wire.HERE))
# What makes a JVM start fast, unless speed is compared: then CORELANE_JVM_FLAGS says how Kafka itself would start it.
JVM_FLAGS = os.environ.get("CORELANE_JVM_FLAGS", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1").split()
JAVA_FLAGS = [*JVM_FLAGS, "-Dlog4j2.level=WARN"]


def free_ports(count):
    """A base port with `count` free ports from it, below the ephemeral range so that no client socket takes one.
    CORELANE_TEST_PORTS=FIRST-LAST narrows where they are looked for."""
    first, last = os.environ.get("CORELANE_TEST_PORTS", "15000-30999").split("-")
    for _ in range(200):
        base = random.randrange(int(first), int(last) + 2 - count)
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise RuntimeError("no free ports")


def java_command(main_class, *arguments, heap="256m"):
    return ["java", *JAVA_FLAGS, f"-Xmx{heap}", "-cp", os.path.join(wire.LIB, "*"), main_class, *arguments]


class Broker:
    """A broker process in a directory of its own. Every process is ended by its own pid."""

    def __init__(self, directory=None):
        self.directory = directory or tempfile.mkdtemp(prefix="corelane-clients-")
        self.log_path = os.path.join(self.directory, "log")
        self.process = None

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def wait_for_answers(self, seconds=60):
        """Waits until ApiVersions and Metadata are answered and a broker is listed. A log line would prove less."""
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"broker ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                connection = wire.Connection(self.address, timeout=5)
                try:
                    connection.call("ApiVersions", 0)
                    if connection.call("Metadata", 1, {"Topics": []})["Brokers"]:
                        return
                finally:
                    connection.close()
            except (OSError, wire.Closed, wire.Silent):
                pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"broker does not answer:\n{self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()[-4000:]

    def stop(self, seconds=60):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return "no exit"

    def kill(self):
        """SIGKILL."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def destroy(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Kafka(Broker):
    """A real Apache Kafka of one node: broker and controller in one process."""

    name = "kafka"

    def __init__(self, settings=(), directory=None, port=None):
        super().__init__(directory)
        self.port = port or free_ports(1)
        self.properties = os.path.join(self.directory, "server.properties")
        if not os.path.exists(self.properties):
            self._format(settings)

    def _format(self, settings):
        controller = free_ports(1)
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}",
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=PLAINTEXT",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"log.dirs={self.directory}/data",
            "offsets.topic.replication.factor=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "share.coordinator.state.topic.replication.factor=1",
            "share.coordinator.state.topic.min.isr=1",
            "group.initial.rebalance.delay.ms=0",
            *settings,
        ]
        with open(self.properties, "w") as out:
            out.write("\n".join(lines) + "\n")
        # A first letter, because one id in 64 begins like an option.
        cluster = "C" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        done = subprocess.run(
            java_command("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", self.properties),
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError("StorageTool: " + done.stdout + done.stderr)

    def start(self, preexec=None):
        log = open(self.log_path, "a")
        self.process = subprocess.Popen(
            java_command("kafka.Kafka", self.properties, heap="768m"),
            stdout=log,
            stderr=log,
            cwd=self.directory,
            preexec_fn=preexec,
        )
        log.close()
        self.wait_for_answers()


class Corelane(Broker):
    """The `corelane` binary, as built by cargo or named by CORELANE_BIN."""

    name = "corelane"

    def __init__(self, shards=1, advertise="per-core", settings=(), directory=None, command=None):
        super().__init__(directory)
        self.port = free_ports(shards + 1)
        self.command = command or [corelane_binary()]
        self.arguments = ["serve", "--data", os.path.join(self.directory, "data"), "--listen", self.bootstrap]
        self.arguments += ["--shards", str(shards), "--advertise", advertise]
        self.http_port = self.port + shards
        self.arguments += ["--http", f"127.0.0.1:{self.http_port}"]
        # As in Kafka's properties above.
        for setting in ("group.initial.rebalance.delay.ms=0", *settings):
            self.arguments += ["--set", setting]
        self.ready_line = None

    def start(self):
        log = open(self.log_path, "a")
        started = time.monotonic()
        self.process = subprocess.Popen([*self.command, *self.arguments], stdout=subprocess.PIPE, stderr=log)
        log.close()
        self.ready_line = self._read_ready_line(60)
        self.start_seconds = time.monotonic() - started
        self.wait_for_answers()

    def metric(self, name):
        """The sum over the shards of a counter that the metrics endpoint names."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=10) as answer:
            rows = re.findall(rf"^{name}{{[^}}]*}} (\S+)$", answer.read().decode(), re.MULTILINE)
        if not rows:
            raise RuntimeError(f"no metric {name}")
        return sum(float(row) for row in rows)

    def _read_ready_line(self, seconds):
        deadline = time.monotonic() + seconds
        text = b""
        while True:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise RuntimeError(f"no `ready` line in {seconds} s:\n{self.log_tail()}")
            part = os.read(self.process.stdout.fileno(), 4096)
            if not part:
                status = self.process.wait()
                raise RuntimeError(f"corelane ended with {status} before it was ready:\n{self.log_tail()}")
            text += part
            for line in text.decode(errors="replace").split("\n")[:-1]:
                if line.startswith("ready"):
                    return line


def corelane_binary():
    """CORELANE_BIN, or what cargo built last."""
    named = os.environ.get("CORELANE_BIN")
    if named:
        return named
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    built = [os.path.join(target, profile, "corelane") for profile in ("release", "debug")]
    built = [path for path in built if os.path.exists(path)]
    if not built:
        raise SystemExit("no corelane binary: build it with cargo, or name it in CORELANE_BIN")
    return max(built, key=os.path.getmtime)

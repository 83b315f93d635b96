"""Kafka Connect: a file through a topic into another file, by one standalone worker and by two distributed ones."""

import json
import os
import urllib.error
import urllib.request

import brokers
from world import SESSION_MS, Failed, expect, java, wait_until


def scenarios(_full):
    return [("connect standalone", standalone), ("connect distributed", distributed)]


class Files:
    """The file that grows and the file that must become the same."""

    def __init__(self, world, name):
        self.source = os.path.join(world.directory, name + ".in")
        self.sink = os.path.join(world.directory, name + ".out")
        self.lines = 0

    def grow(self, count):
        with open(self.source, "a") as out:
            out.writelines(f"line {self.lines + i}\n" for i in range(count))
        self.lines += count

    def written(self):
        if not os.path.exists(self.sink):
            return []
        with open(self.sink) as text:
            return text.read().splitlines()

    def arrive(self, what, exactly=True):
        """At least once each; with `exactly` also once and in order."""
        wanted = [f"line {i}" for i in range(self.lines)]
        holds = lambda: self.written() == wanted if exactly else set(self.written()) == set(wanted)
        wait_until(holds, lambda: f"{what}: {self.differs(wanted)}", 90, pause=0.2)

    def differs(self, wanted):
        """What is wrong with the file that was written, in words."""
        written = self.written()
        known, there = set(wanted), set(written)
        missing = [line for line in wanted if line not in there]
        strange = [line for line in written if line not in known]
        return (
            f"{len(written)} of {len(wanted)} lines in {self.sink}, the first {written[:1]}, the last {written[-1:]};"
            f" {len(missing)} are missing: {missing[:3]}…{missing[-1:]}, {len(strange)} are none of them: {strange[:3]}"
        )


def worker_properties(world, **more):
    properties = {
        "bootstrap.servers": world.bootstrap,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
        "offset.flush.interval.ms": "500",
        "consumer.auto.offset.reset": "earliest",
        "consumer.session.timeout.ms": str(SESSION_MS),
        "plugin.discovery": "only_scan",
        **more,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def connectors(files, topic):
    source = {"connector.class": "FileStreamSource", "tasks.max": "1", "file": files.source, "topic": topic}
    # More than all lines there will be: FileStreamSourceTask keeps what it has read beyond a full batch until the file grows
    # again, and one that starts over from where a crash left it may fill its 2,000 just before the file's end.
    source["batch.size"] = "10000"
    sink = {"connector.class": "FileStreamSink", "tasks.max": "1", "file": files.sink, "topics": topic}
    return {f"{topic}-source": source, f"{topic}-sink": sink}


def write(world, name, text):
    path = os.path.join(world.directory, name)
    with open(path, "w") as out:
        out.write(text)
    return path


def standalone(world):
    topic = "connect-standalone"
    world.create_topic(topic, 1)
    files = Files(world, topic)
    files.grow(1000)
    offsets = os.path.join(world.directory, "standalone.offsets")
    port = brokers.free_ports(1)
    settings = {"offset.storage.file.filename": offsets, "listeners": f"http://127.0.0.1:{port}"}
    arguments = [write(world, "standalone.properties", worker_properties(world, **settings))]
    for name, config in connectors(files, topic).items():
        text = f"name={name}\n" + "".join(f"{key}={value}\n" for key, value in config.items())
        arguments.append(write(world, name + ".properties", text))
    start = lambda: world.spawn(java("org.apache.kafka.connect.cli.ConnectStandalone", *arguments, heap="256m"), topic)
    worker = start()
    files.arrive("the first lines")
    files.grow(1000)
    files.arrive("lines that came later")
    expect(world.end(worker, 60) in (0, 143), "the worker ends in order")
    files.grow(1000)
    worker = start()
    files.arrive("lines from between two runs")
    expect(world.end(worker, 60) in (0, 143), "the worker ends in order")


def ask(port, path, body=None, method=None):
    """The worker's REST interface. None while it is not up, moves its tasks, or knows no such thing yet."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refusal:
        if refusal.code in (404, 409, 503):
            return None
        raise Failed(f"{path}: {refusal.code} {refusal.read()[:500]}") from None
    except OSError:
        return None


def distributed(world):
    topic = "connect-distributed"
    world.create_topic(topic, 1)
    files = Files(world, topic)
    files.grow(1000)
    workers, ports = [], []
    for number in (1, 2):
        port = brokers.free_ports(1)
        settings = {
            "group.id": "connect-cluster",
            "session.timeout.ms": str(SESSION_MS),
            "heartbeat.interval.ms": "500",
            "scheduled.rebalance.max.delay.ms": "1000",
            "listeners": f"http://127.0.0.1:{port}",
        }
        for kind in ("config", "offset", "status"):
            settings[f"{kind}.storage.topic"] = f"connect-{kind}s"
            settings[f"{kind}.storage.replication.factor"] = "1"
        path = write(world, f"distributed-{number}.properties", worker_properties(world, **settings))
        workers.append(world.spawn(java("org.apache.kafka.connect.cli.ConnectDistributed", path, heap="256m"), f"{topic}-{number}"))
        ports.append(port)
    for port in ports:
        wait_until(lambda: ask(port, "/connectors") is not None, f"the worker at {port} answers", 60)
    for name, config in connectors(files, topic).items():
        put = lambda: ask(ports[0], f"/connectors/{name}/config", config, "PUT")
        wait_until(put, f"{name} is accepted", 60, pause=0.5)

    def owners(port):
        """The worker of each task and connector that runs, as the cluster tells it."""
        told = {}
        for name in connectors(files, topic):
            status = ask(port, f"/connectors/{name}/status")
            if status and status["connector"]["state"] == "RUNNING" and status["tasks"]:
                task = status["tasks"][0]
                expect(task["state"] != "FAILED", f"{name}: {task.get('trace')}")
                told[name] = task["worker_id"]
        return told

    files.arrive("the first lines", exactly=False)
    # A worker answers before it is a member, and gets its part in a rebalance after that.
    shared = lambda: len(set(owners(ports[0]).values())) == 2
    wait_until(shared, lambda: f"both run, one at each worker: {owners(ports[0])}", 60)
    files.grow(1000)
    files.arrive("two workers", exactly=False)
    workers[1].kill()
    workers[1].wait()
    files.grow(1000)
    files.arrive("after the crash of a worker", exactly=False)
    there = lambda: set(owners(ports[0]).values()) == {f"127.0.0.1:{ports[0]}"}
    wait_until(there, lambda: f"the other worker has both tasks: {owners(ports[0])}", 60)
    world.restart_broker(hard=False)
    files.grow(1000)
    files.arrive("after the restart of the broker", exactly=False)
    expect(world.end(workers[0], 60) in (0, 143), "the worker ends in order")

"""What the scenarios share: one broker that may be restarted, the clients' commands, topics, waiting."""

import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = os.path.join(os.path.dirname(HERE), "clients")
WORK = os.path.join(HERE, ".work")
sys.path.insert(0, CLIENTS)

import brokers  # noqa: E402

SESSION_MS = 8000
# Below `queue.buffering.max.messages` of librdkafka, beyond which it takes no more.
PRODUCER_QUEUE_RECORDS = 90_000
# The least that lets a crashed member be noticed within the time of a short run; with `group.protocol=consumer` the
# broker alone decides that.
SETTINGS = [
    "group.initial.rebalance.delay.ms=0",
    f"group.consumer.min.session.timeout.ms={SESSION_MS}",
    f"group.consumer.session.timeout.ms={SESSION_MS}",
    # librdkafka takes the interval for the timeout of the heartbeat too, and does not ask for its assignment again after one:
    # a member whose answer comes late keeps what it should give up, with Apache Kafka as well. So: longer than a disk stalls.
    "group.consumer.min.heartbeat.interval.ms=3000",
    "group.consumer.heartbeat.interval.ms=3000",
    "auto.create.topics.enable=false",
]


class Failed(Exception):
    """A check did not hold."""


def expect(condition, what):
    if not condition:
        raise Failed(what)


def expect_equal(got, wanted, what):
    expect(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")


def wait_until(condition, what, seconds=60, pause=0.05):
    """Polls until `condition` gives something true, and returns it. `what` may be a function that tells more."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(pause)


def java(main_class, *arguments, heap="192m", lib="ecosystem", flags=()):
    """The command of a Java program: with the jars of the tools, or with our own members' and Streams, Connect, Mirror."""
    path = {
        "tools": os.path.join(CLIENTS, ".work", "lib", "*"),
        "ecosystem": os.path.join(WORK, "classes") + ":" + os.path.join(WORK, "lib", "*"),
    }[lib]
    log = "-Dlog4j2.configurationFile=" + os.path.join(HERE, "log4j2.properties")
    return ["java", *brokers.JAVA_FLAGS, log, *flags, f"-Xmx{heap}", "-cp", path, main_class, *arguments]


def run_to_end(command, stdin=None, status=0, seconds=90):
    """Runs a client to its end: (stdout, stderr). `status` None accepts any."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        tail = (late.stdout or b"")[-1500:] + (late.stderr or b"")[-1500:]
        raise Failed(f"no end after {seconds} s: {shown(command)}\n{tail.decode(errors='replace')}") from None
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if status is not None and done.returncode != status:
        raise Failed(f"status {done.returncode}: {shown(command)}\n{out[-1500:]}\n{err[-3000:]}")
    return out, err


def shown(command):
    return " ".join(word for word in command if not word.startswith(("-XX", "-Xmx", "-D")) and "/lib/*" not in word)


class World:
    """One broker, and a directory that goes away with it."""

    def __init__(self, target, full):
        self.full = full
        self.target = target
        parent = os.path.join(brokers.ROOT, "target", "tmp")
        os.makedirs(parent, exist_ok=True)
        self.directory = tempfile.mkdtemp(prefix="ecosystem-", dir=parent)
        self.logs = os.path.join(WORK, "logs")
        os.makedirs(self.logs, exist_ok=True)
        self.processes = []
        self.broker = self.make_broker(target, "broker")
        self.broker.start()

    def make_broker(self, target, name):
        directory = os.path.join(self.directory, name)
        os.makedirs(directory)
        if target == "kafka":
            return brokers.Kafka(SETTINGS, directory=directory)
        return brokers.Corelane(shards=2, settings=SETTINGS, directory=directory)

    @property
    def bootstrap(self):
        return self.broker.bootstrap

    def restart_broker(self, hard):
        if hard:
            self.broker.kill()
        else:
            self.broker.stop()
        self.broker.start()

    def admin(self, bootstrap=None):
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": bootstrap or self.bootstrap, "log_level": 2})

    def create_topic(self, name, partitions=1, config=None, bootstrap=None):
        from confluent_kafka.admin import NewTopic

        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
        admin = self.admin(bootstrap)
        admin.create_topics([topic])[name].result(30)
        # Kafka lists a new topic a moment after it said so, and kafkajs does not wait.
        listed = lambda: admin.list_topics(name, timeout=10).topics[name].partitions.values()
        wait_until(lambda: sum(p.leader >= 0 for p in listed()) == partitions, f"{name} has leaders", 10)

    def admin_topics(self):
        admin = self.admin()
        return sorted(admin.list_topics(timeout=30).topics)

    def topic_config(self, topic, key):
        from confluent_kafka.admin import ConfigResource, ResourceType

        admin, resource = self.admin(), ConfigResource(ResourceType.TOPIC, topic)
        return admin.describe_configs([resource])[resource].result(30)[key].value

    def ends(self, topic):
        """The end offset of each partition."""
        from confluent_kafka import TopicPartition
        from confluent_kafka.admin import OffsetSpec

        admin = self.admin()
        partitions = [TopicPartition(topic, p) for p in admin.list_topics(topic, 30).topics[topic].partitions]
        found = admin.list_offsets({partition: OffsetSpec.latest() for partition in partitions})
        return {partition.partition: told.result(30).offset for partition, told in found.items()}

    def produce(self, topic, rows, bootstrap=None):
        """(partition or None, key, value) each; returns when all are acknowledged."""
        from confluent_kafka import Producer

        failures = []
        producer = Producer({"bootstrap.servers": bootstrap or self.bootstrap, "enable.idempotence": True, "log_level": 2})
        for partition, key, value in rows:
            where = {} if partition is None else {"partition": partition}
            # A full queue is no failure: it empties as the broker answers.
            while len(producer) >= PRODUCER_QUEUE_RECORDS:
                producer.poll(0.05)
            producer.produce(topic, key=key, value=value, on_delivery=lambda e, _: e and failures.append(e), **where)
            producer.poll(0)
        left = producer.flush(60)
        expect(not left and not failures, f"not delivered to {topic}: {left} left, {failures[:3]}")

    def consume_all(self, topic, bootstrap=None):
        """Every record of a topic that is not being written, by a reader without a group."""
        from confluent_kafka import Consumer, TopicPartition

        config = {"bootstrap.servers": bootstrap or self.bootstrap, "group.id": "unused", "enable.auto.commit": False}
        consumer = Consumer({**config, "log_level": 2})
        try:
            listed = consumer.list_topics(topic, 30).topics[topic]
            expect(listed.error is None, f"{topic}: {listed.error}")
            ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 30)[1] for p in listed.partitions}
            consumer.assign([TopicPartition(topic, p, 0) for p in ends])
            records, waiting, deadline = [], {p for p, end in ends.items() if end}, time.monotonic() + 60
            while waiting:
                expect(time.monotonic() < deadline, f"{topic}: no more records, {waiting} of {ends} are not read")
                message = consumer.poll(0.2)
                if message is None or message.error():
                    continue
                records.append(message)
                if message.offset() + 1 >= ends[message.partition()]:
                    waiting.discard(message.partition())
            return records
        finally:
            consumer.close()

    def committed(self, group, topic, partitions):
        """The group's commits as text by partition, as Kafka's tools print them; none where there is none."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 2})

        def ask():
            try:
                told = consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=30)
            except KafkaException:
                # librdkafka hands on what passes: a coordinator that is being made, or that loads.
                return None
            return told if not any(t.error for t in told) else None

        try:
            told = wait_until(ask, f"the commits of {group} are told", 30)
            return {t.partition: str(t.offset) for t in told if t.offset >= 0}
        finally:
            consumer.close()

    def tool(self, name, *arguments, status=0, stdin=None, seconds=90, bootstrap=None):
        """One of Kafka's command line tools, by its class below org.apache.kafka.tools: (stdout, stderr)."""
        command = java("org.apache.kafka.tools." + name, "--bootstrap-server", bootstrap or self.bootstrap, *arguments, lib="tools")
        return run_to_end(command, stdin, status, seconds)

    def spawn(self, command, log, stdout=None, **options):
        """A process that goes away with the world at the latest. What it prints is kept in `.work/logs`."""
        with open(os.path.join(self.logs, log + ".log"), "a") as out:
            process = subprocess.Popen(command, stdout=out if stdout is None else stdout, stderr=out, stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def log_tail(self, log, length=3000):
        with open(os.path.join(self.logs, log + ".log"), errors="replace") as text:
            return text.read()[-length:]

    def end(self, process, seconds=30):
        """SIGTERM; returns the exit status. One that does not obey is killed, and that is a failure."""
        process.terminate()
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"no end {seconds} s after SIGTERM: {shown(process.args)}") from None

    def reap(self):
        """Ends what a scenario left running."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.processes.clear()

    def destroy(self):
        self.reap()
        self.broker.destroy()
        shutil.rmtree(self.directory, ignore_errors=True)

"""A group of two members of each client, through join, leave, crash of a member and restart of the broker.

The members are small programs in the client's own language (members/README.md). While one producer writes without
pause, the driver starts, ends and kills them, and the broker; `judge.py` holds what they print against the rules.
"""

import os
import signal
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from judge import Judge
from world import HERE, SESSION_MS, WORK, Failed, expect, java, wait_until

PARTITIONS = 4
# Begins a line that is not of a member.
MARK = "- mark "
MEMBERS = os.path.join(HERE, "members")
PYTHON = os.path.join(WORK, "venv", "bin", "python")

COMMANDS = {
    "java": java("GroupMember", heap="96m"),
    "confluent": [PYTHON, os.path.join(MEMBERS, "member_confluent.py")],
    "aiokafka": [PYTHON, os.path.join(MEMBERS, "member_aiokafka.py")],
    "kafkajs": ["node", os.path.join(MEMBERS, "member_kafkajs.js")],
    "franz": [os.path.join(WORK, "bin", "franz")],
    "sarama": [os.path.join(WORK, "bin", "sarama")],
}

# Client, protocol, whether the short form has it.
CASES = [
    ("java", "cooperative", True),
    ("java", "range", False),
    ("java", "consumer", True),
    ("confluent", "range", True),
    ("confluent", "cooperative", False),
    ("confluent", "consumer", True),
    ("aiokafka", "range", True),
    ("kafkajs", "range", True),
    ("franz", "cooperative", True),
    ("franz", "range", False),
    ("sarama", "range", True),
]


def scenarios(full):
    return [
        (f"group {client} {protocol}", lambda world, c=client, p=protocol: play(world, c, p))
        for client, protocol, short in CASES
        if short or full
    ]


class Traffic:
    """A producer that writes a rising number to the partitions in turn until it is told to stop."""

    def __init__(self, bootstrap, topic, rate):
        self.topic = topic
        self.rate = rate
        self.acknowledged = set()
        self.ends = {partition: 0 for partition in range(PARTITIONS)}
        self.failures = []
        self.stopping = threading.Event()
        config = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "reconnect.backoff.max.ms": 500}
        # A request that the restart swallowed is asked again soon.
        config |= {"request.timeout.ms": 5000, "socket.timeout.ms": 10_000}
        self.producer = Producer({**config, "log_level": 2})
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        number, started = 0, time.monotonic()
        while not self.stopping.is_set():
            while number < (time.monotonic() - started) * self.rate:
                self.producer.produce(self.topic, str(number), partition=number % PARTITIONS, on_delivery=self._delivered(number))
                number += 1
            self.producer.poll(0.02)
        if self.producer.flush(60):
            self.failures.append("records neither delivered nor failed after 60 s")

    def _delivered(self, number):
        def note(error, message):
            if error:
                self.failures.append(str(error))
            else:
                self.acknowledged.add(number)
                self.ends[message.partition()] = max(self.ends[message.partition()], message.offset() + 1)

        return note

    def stop(self):
        self.stopping.set()
        self.thread.join()
        expect(not self.failures, f"the producer failed: {self.failures[:3]}")
        return self.acknowledged, self.ends


class Mark:
    """Something that the judge takes in at its place among the lines of the members."""

    def __init__(self, act):
        self.act = act
        self.reached = threading.Event()

    def reach(self, judge):
        self.given = self.act(judge)
        self.reached.set()

    def result(self):
        expect(self.reached.wait(60), "the lines of the members are listened to")
        return self.given


class Group:
    """The members of one group, and the threads that listen to them and to the broker."""

    def __init__(self, world, client, protocol):
        self.world = world
        self.client, self.protocol = client, protocol
        self.name = f"{client}-{protocol}-{os.urandom(3).hex()}"
        self.judge = Judge(PARTITIONS)
        self.lock = threading.Lock()
        self.running = {}
        self.log = open(os.path.join(world.logs, f"group-{client}-{protocol}.log"), "w")
        self.read_end, self.write_end = os.pipe()
        self.marks = {}
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()
        self.stopping = threading.Event()
        self.asker = threading.Thread(target=self._ask)
        self.asker.start()

    def note(self, text):
        self.log.write(f"{time.time():.3f} -- {text}\n")
        self.log.flush()

    def _listen(self):
        with os.fdopen(self.read_end, errors="replace") as lines:
            for line in lines:
                line = line.rstrip("\n")
                self.log.write(f"{time.time():.3f} {line}\n")
                with self.lock:
                    if line.startswith(MARK):
                        self.marks.pop(line).reach(self.judge)
                    else:
                        self.judge.on_line(line)

    def mark(self, act):
        """Has `act(judge)` happen at this place among the lines: after all that members have printed by now, however far
        behind the listener is. Returns what it gives."""
        mark = Mark(act)
        line = f"{MARK}{id(mark)}"
        self.marks[line] = mark
        os.write(self.write_end, f"{line}\n".encode())
        return mark.result()

    def _ask(self):
        """Asks the broker for the commits, again and again."""
        config = {"bootstrap.servers": self.world.bootstrap, "group.id": self.name, "reconnect.backoff.max.ms": 500}
        consumer = Consumer({**config, "enable.auto.commit": False, "log_level": 2})
        while not self.stopping.wait(0.3):
            self.ask(consumer)
        consumer.close()

    def ask(self, consumer):
        before = self.mark(lambda judge: dict(judge.committed))
        try:
            told = consumer.committed([TopicPartition(self.name, p) for p in range(PARTITIONS)], timeout=2)
        except KafkaException:
            # While the broker restarts.
            return False
        if any(t.error for t in told):
            return False
        # Below zero stands for none.
        told = {t.partition: t.offset for t in told if t.offset >= 0}
        self.mark(lambda judge: judge.on_broker_commits(told, before))
        return True

    def start(self, member):
        self.note(f"start {member}")
        arguments = [self.world.bootstrap, self.name, self.name, member, self.protocol, str(SESSION_MS)]
        environment = {**os.environ, "NODE_PATH": os.path.join(WORK, "node", "node_modules")}
        self.running[member] = self.world.spawn(
            [*COMMANDS[self.client], *arguments], f"members-{self.client}", stdout=self.write_end, env=environment
        )

    def leave(self, member):
        self.note(f"leave {member}")
        self.mark(lambda judge: judge.on_leave(member))
        process = self.running.pop(member)
        status = self.world.end(process)
        # A JVM that SIGTERM ended says so by 143.
        expect(status in ((0, 143) if self.client == "java" else (0,)), f"{member} ended with {status}")
        self.wait(lambda: member in self.judge.closed, f"{member} closes", 5)

    def kill(self, member):
        self.note(f"kill {member}")
        self.mark(Judge.begin_rough)
        process = self.running.pop(member)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.mark(lambda judge: judge.on_death(member))

    def settle(self, what, seconds=60):
        """Waits until those that run share all partitions and have handled records since."""
        members = list(self.running)
        self.wait(lambda: self.judge.is_settled(members), f"{what}: {members} share all partitions", seconds)
        with self.lock:
            counts = dict(self.judge.record_counts)
        more = lambda: all(self.judge.record_counts.get(m, 0) > counts.get(m, 0) + 10 for m in members)
        self.wait(more, f"{what}: {members} handle records", seconds)
        self.note(f"settled: {what}")

    def smooth(self):
        self.mark(Judge.end_rough)

    def wait(self, condition, what, seconds=60):
        def check():
            with self.lock:
                if self.judge.violations:
                    raise Failed("; ".join(self.judge.violations[:5]))
                for member, process in self.running.items():
                    if process.poll() is not None:
                        raise Failed(f"{member} ended by itself with {process.returncode}")
                return condition()

        def tell():
            with self.lock:
                return f"{what}; owned {self.judge.owned}, handled {self.judge.record_counts}, last {self.judge.troubles[-3:]}"

        wait_until(check, tell, seconds)

    def close(self):
        self.stopping.set()
        self.asker.join()
        for process in self.running.values():
            process.kill()
            process.wait()
        os.close(self.write_end)
        self.listener.join()
        self.log.close()


def play(world, client, protocol):
    rounds = 3 if world.full else 1
    group = Group(world, client, protocol)
    traffic = None
    try:
        world.create_topic(group.name, PARTITIONS)
        traffic = Traffic(world.bootstrap, group.name, rate=400 if world.full else 100)
        group.start("a1")
        group.settle("first member")
        for turn in range(1, rounds + 1):
            # One leaves, and the other takes over in order.
            group.start(f"b{turn}")
            group.settle("join")
            group.leave(f"a{turn}")
            group.settle("leave")
            # One dies. Until the broker has noticed, its partitions are nobody's.
            group.start(f"c{turn}")
            group.settle("join before the crash")
            group.kill(f"c{turn}")
            group.settle("crash of a member")
            group.smooth()
            # The broker goes down and comes up again, in turn with and without warning.
            group.start(f"a{turn + 1}")
            group.settle("join before the restart")
            group.mark(Judge.begin_rough)
            group.note("restart")
            world.restart_broker(hard=turn % 2 == 0)
            group.note("restarted")
            group.settle("restart of the broker")
            group.smooth()
            group.leave(f"b{turn}")
            group.settle("leave after the restart")
        acknowledged, ends = traffic.stop()
        group.wait(lambda: acknowledged <= group.judge.values, "every acknowledged record is handled")
        for member in list(group.running):
            group.leave(member)
        # Whatever the members could tell, the broker's word is the last.
        told = lambda: all(group.judge.committed.get(p, 0) >= end for p, end in ends.items())
        group.wait(told, lambda: f"the end {ends} is committed: {group.judge.committed}", 10)
        group.judge.finish(acknowledged, ends)
        expect(not group.judge.violations, "; ".join(group.judge.violations[:5]))
        return f"{len(acknowledged)} records, {group.judge.repeats} handled again after crashes"
    finally:
        if traffic and not traffic.stopping.is_set():
            traffic.stopping.set()
            traffic.thread.join()
        group.close()

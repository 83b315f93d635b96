"""Consumer groups whose members join, leave and are killed while the broker is. The members are the programs of
tests/ecosystem, one process each, and their judge holds what they print against the rules; here everything is rough all the
time, so records may be handled again, but no commit goes back and nothing is committed that was not handled.
"""

import os
import random
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ECOSYSTEM = os.path.join(os.path.dirname(HERE), "ecosystem")
sys.path.append(ECOSYSTEM)

import groups as ecosystem  # noqa: E402
import judge as ecosystem_judge  # noqa: E402
from confluent_kafka import Consumer, KafkaException, TopicPartition  # noqa: E402

from checks import Violated  # noqa: E402

COMMITS = "committed offsets never go back, nor beyond what was handled"
SETTLED = "groups share all partitions after joins, leaves and deaths"
HANDLED = "every record acknowledged to a group's topic is handled"
NAMES = [COMMITS, SETTLED, HANDLED]

MEMBERS_MAX = 3
RATE = 50


class Judge(ecosystem_judge.Judge):
    """Knows besides that a commit stays within what was handled."""

    def __init__(self, partitions):
        super().__init__(partitions)
        self.handled_ends = {}
        self.rebalances = 0
        self.begin_rough()

    def end_rough(self):
        pass

    def _on_record(self, member, text):
        partition, offset, _ = (int(word) for word in text.split(" "))
        self.handled_ends[partition] = max(self.handled_ends.get(partition, 0), offset + 1)
        super()._on_record(member, text)

    def _on_assigned(self, member, text):
        self.rebalances += 1
        super()._on_assigned(member, text)

    def on_broker_commits(self, told, before):
        super().on_broker_commits(told, before)
        for partition, offset in told.items():
            end = self.handled_ends.get(partition, 0)
            if offset > end:
                self.violations.append(f"partition {partition}: the broker tells {offset}, handled was up to {end}")


class Traffic(ecosystem.Traffic):
    """Its records are sent again after long outages, and then acknowledged without an offset."""

    def _delivered(self, number):
        def note(error, message):
            if error:
                self.failures.append(str(error))
            else:
                self.acknowledged.add(number)

        return note


class Group(ecosystem.Group):
    """Waits by the time in which the broker serves."""

    def __init__(self, stage, protocol):
        super().__init__(stage, "confluent", protocol)
        self.judge = Judge(ecosystem.PARTITIONS)
        self.started = []  # every process, also one that did not leave when it was told to

    def start(self, member):
        super().start(member)
        self.started.append(self.running[member])

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
        super().close()

    def wait(self, condition, what, seconds=60):
        def check():
            with self.lock:
                if self.judge.violations:
                    raise Violated("; ".join(self.judge.violations[:5]))
                for member, process in self.running.items():
                    if process.poll() is not None:
                        raise Violated(f"{member} ended by itself with {process.returncode}")
                return condition()

        def tell():
            with self.lock:
                return f"{what}; owned {self.judge.owned}, handled {self.judge.record_counts}, last {self.judge.troubles[-3:]}"

        # A member that died is missed after its session, so twice what is asked of all else.
        self.world.wait_until(check, tell, 120)

    def leave(self, member):
        self.note(f"leave {member}")
        self.mark(lambda judge: judge.on_leave(member))
        process = self.running.pop(member)
        status = self.world.end(process)
        if status != 0:
            raise Violated(f"{member} ended with {status}")
        self.wait(lambda: member in self.judge.closed, f"{member} closes")


class GroupPlay(threading.Thread):
    def __init__(self, stage, checks, seed, protocol, create_topic):
        super().__init__(name=f"group {protocol}", daemon=True)
        self.stage, self.checks, self.protocol = stage, checks, protocol
        self.random = random.Random(f"{seed} group {protocol}")
        # The interpreter with the client is this one.
        ecosystem.COMMANDS["confluent"] = [sys.executable, os.path.join(ecosystem.MEMBERS, "member_confluent.py")]
        self.group = Group(stage, protocol)
        create_topic(self.group.name, ecosystem.PARTITIONS)
        self.traffic = Traffic(stage.bootstrap, self.group.name, RATE)
        self.stopping = threading.Event()
        self.joins = self.leaves = self.deaths = 0
        self.failed = False

    @property
    def rebalances(self):
        return self.group.judge.rebalances

    def run(self):
        try:
            self.join_one()
            while not self.stopping.wait(self.random.uniform(0.5, 3)):
                members = list(self.group.running)
                act = self.random.random()
                if len(members) == 1 or (len(members) < MEMBERS_MAX and act < 0.4):
                    self.join_one()
                elif act < 0.7:
                    self.group.leave(self.random.choice(members))
                    self.leaves += 1
                else:
                    self.group.kill(self.random.choice(members))
                    self.deaths += 1
                self.group.settle("all share")
                self.checks.held(SETTLED)
                self.checks.held(COMMITS)
        except (Violated, ecosystem.Failed) as failure:
            self.fail(failure)

    def join_one(self):
        self.joins += 1
        self.group.start(f"m{self.joins}")

    def fail(self, failure):
        """The group is given up: what it does from here on is not judged."""
        self.failed = True
        if self.stage.ending.is_set():
            return
        name = COMMITS if self.group.judge.violations else SETTLED
        self.checks.violated(name, f"{self.group.name}: {failure}")

    def finish(self):
        """Everything acknowledged is handled, and committed by those who leave."""
        self.stopping.set()
        self.join()
        try:
            if not self.failed:
                self.finish_traffic()
        except (Violated, ecosystem.Failed) as failure:
            self.fail(failure)
        finally:
            self.close()

    def finish_traffic(self):
        acknowledged, _ = self.traffic.stop()
        group = self.group
        consumer = Consumer({"bootstrap.servers": self.stage.bootstrap, "group.id": group.name, "log_level": 0})
        ends = {partition: self.end_of(consumer, partition) for partition in range(ecosystem.PARTITIONS)}
        try:
            group.wait(lambda: acknowledged <= group.judge.values, "every acknowledged record is handled")
            self.checks.held(HANDLED)
        except Violated as failure:
            missing = sorted(acknowledged - group.judge.values)
            self.checks.violated(HANDLED, f"{group.name}: {len(missing)} are not, such as {missing[:5]}: {failure}")
        for member in list(group.running):
            group.leave(member)
        self.stage.wait_until(lambda: group.ask(consumer), "the broker tells the commits")
        consumer.close()
        group.judge.finish(acknowledged, ends)
        self.checks.expect(COMMITS, not group.judge.violations, lambda: f"{group.name}: {group.judge.violations[:5]}")

    def end_of(self, consumer, partition):
        def ask():
            try:
                return consumer.get_watermark_offsets(TopicPartition(self.group.name, partition), timeout=10)
            except KafkaException:
                return None

        return self.stage.wait_until(ask, f"the end of {self.group.name}-{partition} is told")[1]

    def close(self):
        if not self.traffic.stopping.is_set():
            self.traffic.stopping.set()
            self.traffic.producer.purge()
            self.traffic.thread.join()
        self.group.close()

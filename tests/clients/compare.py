"""Runs the scenarios against two brokers and prints where their answers differ. Started by `compare`."""

import argparse
import contextlib
import json
import os
import re
import select
import sys
import time
import traceback
import uuid

import broker_config_scenarios
import brokers
import compression_scenarios
import group_config_scenarios
import group_scenarios
import scenarios
import wire

SILENCE_SECONDS = 1.5
ANSWER_SECONDS = 15
# Consumer groups do not take classic members here, whatever Kafka's default.
KAFKA_SETTINGS = ["group.consumer.migration.policy=disabled"]
# What Kafka itself is started with, so that both tell the same of it.
TARGET_SETTINGS = [
    *KAFKA_SETTINGS,
    "inter.broker.listener.name=PLAINTEXT",
    "offsets.topic.replication.factor=1",
    "share.coordinator.state.topic.min.isr=1",
    "share.coordinator.state.topic.replication.factor=1",
    "transaction.state.log.min.isr=1",
    "transaction.state.log.replication.factor=1",
]
MODULES = (scenarios, compression_scenarios, group_scenarios, group_config_scenarios, broker_config_scenarios)
SCENARIOS = [
    scenario
    for module in MODULES
    for scenario in module.SCENARIOS
]
ADDRESS_FORM = re.compile(r"(127\.0\.0\.1):\d+")
UUID_FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^[A-Za-z0-9_-]{22}$")


class Peer:
    """One broker as a scenario sees it; keeps the normalised answer of every step."""

    def __init__(self, broker, name, texts):
        self.broker, self.name, self.texts = broker, name, texts
        self.ids = {}
        self.producer_ids = {}
        self.members = {}
        self.steps = {}
        self.connection = None

    def _connected(self):
        if self.connection is None:
            self.connection = wire.Connection(self.broker.address, timeout=ANSWER_SECONDS)
        return self.connection

    def _disconnect(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    @contextlib.contextmanager
    def clients(self, *names):
        """Clients with connections of their own, whose requests may wait beside each other."""
        made = [Client(self, name) for name in names]
        try:
            yield made
        finally:
            for client in made:
                client.connection.close()

    def know(self, name, member_id):
        """From now on the member id of that broker is called `name`."""
        self.members[member_id] = name
        return member_id

    @contextlib.contextmanager
    def second_connection(self):
        connection = wire.Connection(self.broker.address, timeout=ANSWER_SECONDS)
        try:
            yield connection
        finally:
            connection.close()

    def ask(self, api, version, body):
        """A request whose answer is not compared."""
        try:
            return self._connected().call(api, version, body)
        except (wire.Closed, wire.Silent, wire.Malformed):
            self._disconnect()
            raise

    def call(self, label, api, version, body, only_topics=None, whole_batches=False, origin=0):
        """A request whose answer is compared, offsets as counted from `origin`; returns it, None when there was none."""
        answer = None
        try:
            answer = self._connected().call(api, version, body)
            outcome = answer
            if only_topics is not None:
                kept = [t for t in answer["Topics"] if t["Name"].startswith(only_topics)]
                outcome = {**answer, "Topics": kept}
        except (wire.Closed, wire.Silent, wire.Malformed) as problem:
            outcome = describe(problem)
            self._disconnect()
        self._keep(label, from_origin(self._normalise(outcome, whole_batches=whole_batches), origin))
        return answer

    def unanswered(self, label, api, version, body):
        """A request without an answer: is the connection still good afterwards?"""
        self._disconnect()
        connection = self._connected()
        connection.call(api, version, body, answered=False)
        try:
            connection.call("Metadata", 1, {"Topics": []})
            self._keep(label, "connection good")
        except (wire.Closed, wire.Silent, wire.Malformed) as problem:
            self._keep(label, describe(problem))
            self._disconnect()

    def raw(self, label, payload, answer_form):
        """One frame on a connection of its own; `answer_form` is (api, version) or None if no answer is meant."""
        self.raw_bytes(label, len(payload).to_bytes(4, "big") + payload, answer_form)

    def raw_bytes(self, label, data, answer_form=None, hang_up=False):
        connection = wire.Connection(self.broker.address, timeout=SILENCE_SECONDS)
        try:
            connection.write_raw(data)
            if hang_up:
                connection.socket.shutdown(1)
            answer = connection.read()
            if answer_form is None:
                outcome = f"answer of {len(answer)} bytes"
            else:
                connection.correlation_id = int.from_bytes(answer[:4], "big", signed=True)
                outcome = {"correlation id": connection.correlation_id, **connection.decode(*answer_form, answer)}
        except (wire.Closed, wire.Silent, wire.Malformed) as problem:
            outcome = describe(problem)
        finally:
            connection.close()
        self._keep(label, self._normalise(outcome))

    def note(self, label, value):
        """Something the scenario found out by itself."""
        self._keep(label, self._normalise(value))

    def node_id(self):
        return self.ask("Metadata", 1, {"Topics": []})["Brokers"][0]["NodeId"]

    def leader_epoch(self, topic):
        listed = self.ask("Metadata", 9, {"Topics": [{"Name": topic}], "AllowAutoTopicCreation": False})
        return listed["Topics"][0]["Partitions"][0]["LeaderEpoch"]

    def _keep(self, label, value):
        assert label not in self.steps, f"two steps are named {label}"
        self.steps[label] = value

    def _normalise(self, value, name="", whole_batches=False):
        """The answer without what may differ: ids, ports, times, and the texts of errors."""
        again = lambda v, n=name: self._normalise(v, n, whole_batches)
        if isinstance(value, dict):
            return {k: again(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return sorted(value) if name == "SubscribedTopicNames" else [again(v) for v in value]
        if isinstance(value, uuid.UUID):
            if value == scenarios.ZERO_ID or value == scenarios.STRANGE_ID:
                return str(value)
            return f"<id of {self.ids.get(value, 'a topic')}>"
        if name == "Records" and isinstance(value, (bytes, type(None))):
            found = wire.batch_headers(value)
            if whole_batches:
                # Where an answer may be cut is free; which batches are whole is not.
                found = [h for h in found if "torn" not in h]
            kept = [again(h, "batch") for h in found]
            return kept if value is not None else None
        if name in ("ErrorMessage", "BatchIndexErrorMessage") and not self.texts:
            return "<text>" if value else value
        if name == "Documentation":
            return "<text>" if value else value
        if name == "FinalizedFeaturesEpoch":
            return "<epoch>" if value >= 0 else value
        if name == "ClusterId":
            return "<cluster>" if value else value
        if name in ("NodeId", "LeaderId", "ControllerId", "BrokerId", "ReplicaNodes", "IsrNodes") and isinstance(value, int):
            return "<node>" if value >= 0 else value
        if name == "Port":
            return "<port>"
        if name == "SessionId":
            return "<session>" if value else value
        if name in ("ProducerId", "producerId") and 0 <= value < 900_000_000:
            return f"<producer {self.producer_ids.setdefault(value, len(self.producer_ids))}>"
        if isinstance(value, int) and not isinstance(value, bool) and abs(value - time.time() * 1000) < 86_400_000:
            return "<now>"
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, str):
            # Where a broker lies and listens is its own.
            value = ADDRESS_FORM.sub(r"\1:<port>", value.replace(self.broker.directory, "<directory>"))
            # Ids that brokers make up count only for being there.
            return f"<{self.members[value]}>" if value in self.members else UUID_FORM.sub("<uuid>", value)
        return value


class Client:
    """One connection of a scenario: a request may be sent now and its answer taken later."""

    def __init__(self, peer, name):
        self.peer, self.name, self.sent = peer, name, None
        self.connection = wire.Connection(peer.broker.address, timeout=ANSWER_SECONDS)

    def send(self, api, version, body):
        self.connection.call(api, version, body, answered=False)
        self.sent = (api, version)

    def is_answered(self, seconds=0.3):
        return bool(select.select([self.connection.socket], [], [], seconds)[0])

    def waits(self, label):
        """Compares whether the answer is on its way."""
        self.peer.note(label, "answered" if self.is_answered() else "waits")

    def take(self, label=None):
        """The answer to what was sent; compared if it has a label."""
        answer = None
        try:
            answer = outcome = self.connection.decode(*self.sent, self.connection.read())
        except (wire.Closed, wire.Silent, wire.Malformed) as problem:
            outcome = describe(problem)
        if label is not None:
            self.peer.note(label, outcome)
        return answer

    def call(self, label, api, version, body):
        self.send(api, version, body)
        return self.take(label)

    def ask(self, api, version, body):
        return self.call(None, api, version, body)


OFFSETS = ("BaseOffset", "baseOffset", "HighWatermark", "LastStableOffset")


def from_origin(value, origin):
    """Offsets that are known, as distances from `origin`."""
    if isinstance(value, dict):
        known = lambda k, v: k in OFFSETS and v >= 0
        return {k: v - origin if known(k, v) else from_origin(v, origin) for k, v in value.items()}
    return [from_origin(v, origin) for v in value] if isinstance(value, list) else value


def describe(problem):
    if isinstance(problem, wire.Malformed):
        return f"malformed: {problem}"
    return "closed" if isinstance(problem, wire.Closed) else "silent"


KEYS = ("ApiKey", "Name", "Topic", "TopicId", "PartitionIndex", "Partition", "Index", "ResourceName", "GroupId", "MemberId", "Key", "NodeId")


def keyed(items):
    """A list as a dict: elements by what names them, so that order does not count, else by place."""
    out = {}
    for place, item in enumerate(items):
        key = place
        if isinstance(item, dict):
            # The empty name is a group's as good as another.
            key = next((item[k] for k in KEYS if item.get(k) not in (None, "") or k == "GroupId" and k in item), place)
        suffix = 2
        base = key
        while key in out:
            key = f"{base} #{suffix}"
            suffix += 1
        out[key] = item
    return out


def differences(path, kafka, target):
    """(path, what Kafka says, what the target says) of every leaf that differs."""
    if isinstance(kafka, list) and isinstance(target, list):
        kafka, target = keyed(kafka), keyed(target)
        form = "{}[{}]"
    elif isinstance(kafka, dict) and isinstance(target, dict):
        form = "{}.{}"
    else:
        if kafka != target:
            yield path, kafka, target
        return
    for key in list(kafka) + [k for k in target if k not in kafka]:
        inner = form.format(path, key).lstrip(".")
        if key not in kafka or key not in target:
            yield inner, kafka.get(key, ABSENT), target.get(key, ABSENT)
        else:
            yield from differences(inner, kafka[key], target[key])


class _Absent:
    def __repr__(self):
        return "absent"


ABSENT = _Absent()


class Expected:
    """The differences that are meant: lines of `pattern | reason`; `*` in a pattern stands for anything."""

    def __init__(self, path):
        self.rules = []
        if not os.path.exists(path):
            return
        with open(path) as lines:
            for line in lines:
                if line.strip() and not line.startswith("#"):
                    pattern, reason = line.split(" | ", 1)
                    form = ".*".join(re.escape(part) for part in pattern.strip().split("*"))
                    self.rules.append([pattern.strip(), re.compile(form), reason.strip(), 0])

    def reason(self, where):
        for rule in self.rules:
            if rule[1].fullmatch(where):
                rule[3] += 1
                return rule[2]
        return None

    def unused(self):
        return [rule[0] for rule in self.rules if not rule[3]]


def shorten(value):
    text = repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 160 else text[:157] + "..."


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", choices=["corelane", "kafka"], default="corelane")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument("--texts", action="store_true", help="compare the texts of errors too")
    parser.add_argument("--show", action="store_true", help="print Kafka's answers")
    parser.add_argument("--expected", default=os.path.join(wire.HERE, "expected_differences"))
    options = parser.parse_args()
    expected = Expected(options.expected if options.target == "corelane" else "")
    made = []
    steps = unexpected = meant = 0
    try:
        kafka = lambda: brokers.Kafka(KAFKA_SETTINGS)
        made = [kafka(), kafka() if options.target == "kafka" else brokers.Corelane(settings=TARGET_SETTINGS)]
        for broker in made:
            broker.start()
        for scenario in SCENARIOS:
            if options.only not in scenario.__name__:
                continue
            peers = [Peer(broker, name, options.texts) for broker, name in zip(made, ("kafka", "target"))]
            for peer in peers:
                try:
                    scenario(peer)
                except Exception:
                    unexpected += 1
                    print(f"{scenario.__name__}: {peer.name} did not get to the end\n{traceback.format_exc()}")
                    if peer.broker.process.poll() is not None:
                        print(f"the broker ended with {peer.broker.process.returncode}\n{peer.broker.log_tail()}")
                        peer.broker.start()
                peer._disconnect()
            kafka, target = (peer.steps for peer in peers)
            steps += len(kafka)
            for label, answer in kafka.items():
                if options.show:
                    print(f"  {scenario.__name__}/{label}: {json.dumps(answer, ensure_ascii=False, default=repr)}")
                if label not in target:
                    continue
                for path, theirs, ours in differences("", answer, target[label]):
                    where = f"{scenario.__name__}/{label}: {path}".rstrip()
                    if expected.reason(where):
                        meant += 1
                        continue
                    unexpected += 1
                    print(f"{where}\n    kafka  {shorten(theirs)}\n    target {shorten(ours)}")
    finally:
        for broker in made:
            broker.destroy()
    if not options.only:
        for pattern in expected.unused():
            print(f"expected, but not seen: {pattern}")
    print(f"{steps} answers compared: {meant} differences as expected, {unexpected} others")
    sys.exit(1 if unexpected or not steps else 0)


if __name__ == "__main__":
    main()

"""A group member of confluent-kafka (librdkafka); README.md says what it prints."""

import os
import signal
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

bootstrap, group, topic, name, protocol, session_ms = sys.argv[1:]

RETRIABLE = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._WAIT_COORD,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    # With `consumer`: the heartbeat brings the new epoch in a moment.
    KafkaError.STALE_MEMBER_EPOCH,
}

leaving = False
handled = {}  # partition: next offset and leader epoch, not yet committed
owned = set()


def say(event):
    os.write(1, f"{name} {event}\n".encode())


def listed(partitions):
    return ",".join(str(p) for p in sorted(partitions)) or "-"


def commit():
    while handled:
        offsets = [TopicPartition(topic, p, offset, leader_epoch=epoch) for p, (offset, epoch) in handled.items()]
        try:
            for done in consumer.commit(offsets=offsets, asynchronous=False):
                if done.error:
                    say(f"trouble commit of {done.partition}: {done.error}")
                else:
                    say(f"committed {done.partition} {done.offset}")
            handled.clear()
        except KafkaException as failure:
            say(f"trouble commit: {failure.args[0]}")
            if failure.args[0].code() == KafkaError.REBALANCE_IN_PROGRESS:
                # Only polling ends it; with `cooperative` the partitions may stay here, so what was handled is still owed.
                return
            if failure.args[0].code() not in RETRIABLE:
                handled.clear()


def on_assign(_, partitions):
    if protocol == "range":
        owned.clear()
    owned.update(p.partition for p in partitions)
    say(f"assigned {listed(owned)}")


def on_revoke(_, partitions):
    commit()
    revoked = {p.partition for p in partitions}
    owned.difference_update(revoked)
    for partition in revoked:
        handled.pop(partition, None)
    if revoked:
        say(f"revoked {listed(revoked)}")


def on_lost(_, partitions):
    lost = {p.partition for p in partitions}
    owned.difference_update(lost)
    for partition in lost:
        handled.pop(partition, None)
    say(f"lost {listed(lost)}")


def leave(*_):
    global leaving
    leaving = True


signal.signal(signal.SIGTERM, leave)
config = {
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "client.id": name,
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "reconnect.backoff.max.ms": 1000,
}
if protocol == "consumer":
    config["group.protocol"] = "consumer"
else:
    config["session.timeout.ms"] = int(session_ms)
    config["heartbeat.interval.ms"] = 500
    config["partition.assignment.strategy"] = {"range": "range", "cooperative": "cooperative-sticky"}[protocol]
consumer = Consumer(config)
consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
while not leaving:
    for message in consumer.consume(num_messages=50, timeout=0.2):
        if message.error():
            say(f"trouble {message.error()}")
            continue
        say(f"record {message.partition()} {message.offset()} {message.value().decode()}")
        handled[message.partition()] = (message.offset() + 1, message.leader_epoch())
    commit()
consumer.close()
say("closed")

"""MirrorMaker 2 from a real Apache Kafka into the broker under test: records, new topics, and a group's place in them."""

import os

import brokers
from world import SETTINGS, expect, expect_equal, java, wait_until


def scenarios(_full):
    return [("mirrormaker 2", mirror)]


def mirror(world):
    directory = os.path.join(world.directory, "source")
    os.makedirs(directory)
    source = brokers.Kafka(SETTINGS, directory=directory)
    source.start()
    try:
        play(world, source)
    finally:
        source.destroy()


def play(world, source):
    wanted = {p: [f"{p}-{i}" for i in range(1000)] for p in range(3)}
    world.create_topic("orders", 3, {"retention.ms": "7200000"}, bootstrap=source.bootstrap)
    rows = [(p, f"k{p}", value) for p, values in wanted.items() for value in values]
    world.produce("orders", rows, bootstrap=source.bootstrap)
    # A group that has read a part, so that its place has to be translated.
    reset = lambda offset: world.tool(
        "consumer.group.ConsumerGroupCommand", "--group", "readers", "--topic", "orders", "--reset-offsets",
        "--to-offset", offset, "--execute", bootstrap=source.bootstrap,
    )  # fmt: skip
    reset("500")
    settings = {
        "clusters": "source,target",
        "source.bootstrap.servers": source.bootstrap,
        "target.bootstrap.servers": world.bootstrap,
        "source->target.enabled": "true",
        "target->source.enabled": "false",
        "source->target.topics": "orders.*",
        "source->target.groups": "readers",
        "replication.factor": "1",
        "checkpoints.topic.replication.factor": "1",
        "heartbeats.topic.replication.factor": "1",
        "offset-syncs.topic.replication.factor": "1",
        "offset.storage.replication.factor": "1",
        "status.storage.replication.factor": "1",
        "config.storage.replication.factor": "1",
        "refresh.topics.interval.seconds": "2",
        "refresh.groups.interval.seconds": "2",
        "sync.group.offsets.enabled": "true",
        "sync.group.offsets.interval.seconds": "2",
        "emit.checkpoints.interval.seconds": "2",
        "offset.lag.max": "0",
        "offset.flush.interval.ms": "1000",
        "tasks.max": "2",
        "plugin.discovery": "only_scan",
    }
    path = os.path.join(world.directory, "mirror.properties")
    with open(path, "w") as out:
        out.writelines(f"{key} = {value}\n" for key, value in settings.items())
    maker = world.spawn(java("org.apache.kafka.connect.mirror.MirrorMaker", path, heap="384m"), "mirror")

    def mirrored(topic):
        if topic not in world.admin_topics():
            return {}
        told = {}
        for record in world.consume_all(topic):
            told.setdefault(record.partition(), []).append(record.value().decode())
        return told

    def arrive(what):
        counts = lambda: {p: len(values) for p, values in mirrored("source.orders").items()}
        whole = lambda: mirrored("source.orders") == wanted
        wait_until(whole, lambda: f"{what}: {counts()} records in source.orders", 90, pause=0.5)

    arrive("what was there")
    for p in wanted:
        wanted[p] += [f"{p}-{i}" for i in range(1000, 2000)]
    world.produce("orders", [(p, f"k{p}", value) for p, values in wanted.items() for value in values[1000:]], bootstrap=source.bootstrap)
    arrive("what came later")
    world.create_topic("orders-new", 1, bootstrap=source.bootstrap)
    world.produce("orders-new", [(0, None, "new")], bootstrap=source.bootstrap)
    wait_until(lambda: mirrored("source.orders-new") == {0: ["new"]}, "a new topic is mirrored", 60, pause=0.5)
    expect_equal(world.topic_config("source.orders", "retention.ms"), "7200000", "a setting of the topic")
    # MirrorMaker translates a place by the syncs it noted behind it, and keeps fewer of them the longer it runs; one that began
    # late knows only the newest of a partition, and gives no place before that. So the group goes to the end, which is
    # behind every sync. What it read by then of what came later may be translated to less, never to more.
    reset("2000")
    translated = lambda: world.committed("readers", "source.orders", 3)
    at_end = lambda: translated() == {p: "2000" for p in wanted}
    wait_until(at_end, lambda: f"the group's place is translated: {translated()}", 90, pause=0.5)
    expect(world.end(maker, 60) in (0, 143), "MirrorMaker ends in order")

"""Drives kcat and Apache Kafka's own tools against a broker and judges what they print.

Started by `run`. The same checks hold for Corelane and for a real Kafka (`--target kafka`), which proves them.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
import traceback

import brokers
import group_checks
import wire
from session import Failed, Session, execute, expect, expect_equal

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


# The checks. Each has a name, and takes a session; the order within a list is the order they run in.


def kcat_round_trip(s):
    # The topic does not exist: the producer's metadata request creates it.
    s.produce("hello", ["one", "two", "three"])
    expect_equal(s.consume("hello"), ["one", "two", "three"], "messages")


def kcat_metadata(s):
    s.produce("listed", ["x"])
    out, _ = s.kcat("-L", "-J")
    metadata = json.loads(out)
    topic = next(t for t in metadata["topics"] if t["topic"] == "listed")
    expect_equal(len(topic["partitions"]), 1, "partitions")
    leader = topic["partitions"][0]["leader"]
    expect(leader in [b["id"] for b in metadata["brokers"]], f"leader {leader} is a broker")
    out, _ = s.kcat("-L", "-t", "listed")
    expect("topic \"listed\" with 1 partitions" in out, out)


def kcat_keys_headers_nulls(s):
    s.produce("keyed", ["k1=v1", "k2=v2", "=emptykey"], "-K=", "-H", "trace=abc", "-H", "empty=", "-H", "null")
    s.produce("keyed", ["gone="], "-K=", "-Z")
    rows = s.consume("keyed", form="%k|%s|%S|%h|%o\n")
    headers = "trace=abc,empty=,null=NULL"
    wanted = [f"k1|v1|2|{headers}|0", f"k2|v2|2|{headers}|1", f"|emptykey|8|{headers}|2", "gone||-1||3"]
    expect_equal(rows, wanted, "rows")


def kcat_offsets(s):
    s.topics("--create", "--topic", "offsets", "--partitions", "2")
    s.produce("offsets", [f"m{i}" for i in range(10)], "-p", "0")
    time.sleep(1.1)
    middle = int(time.time() * 1000)
    time.sleep(0.1)
    s.produce("offsets", [f"m{i}" for i in range(10, 20)], "-p", "0")
    everything = [f"m{i}" for i in range(20)]
    c = lambda *a: s.consume("offsets", "-p", "0", *a)
    expect_equal(c("-o", "beginning"), everything, "-o beginning")
    expect_equal(c("-o", "end"), [], "-o end")
    expect_equal(c("-o", "7"), everything[7:], "-o 7")
    expect_equal(c("-o", "-5"), everything[15:], "-o -5")
    expect_equal(c("-o", "7", "-c", "3"), everything[7:10], "-c 3")
    expect_equal(c("-o", f"s@{middle}"), everything[10:], "-o s@")
    expect_equal(c("-o", "s@0", "-o", f"e@{middle}"), everything[:10], "-o e@")
    expect_equal(c("-o", f"s@{middle + 3600_000}"), [], "-o s@ of the future")
    expect_equal(s.offset("offsets", 0, middle), 10, "offset by time")
    expect_equal(s.offset("offsets", 0, -2), 0, "earliest")
    expect_equal(s.offset("offsets", 0, -1), 20, "latest")
    expect_equal(s.offset("offsets", 1, -1), 0, "latest of the empty partition")
    expect_equal(s.consume("offsets", "-p", "1"), [], "the empty partition")


def kcat_offset_out_of_range(s):
    s.produce("ranged", ["a", "b"])
    got = s.consume("ranged", "-p", "0", "-o", "1000", "-X", "auto.offset.reset=earliest")
    expect_equal(got, ["a", "b"], "after the reset to earliest")


def kcat_codecs(s):
    for codec in CODECS:
        topic = f"codec-{codec}"
        lines = [f"{codec} message {i} " + "abcdefgh" * (i % 50) for i in range(500)]
        s.produce(topic, lines, "-z", codec, "-X", "linger.ms=20")
        expect_equal(s.consume(topic), lines, f"messages by {codec}")


def codecs_of_topics(s):
    """compression.type: what the broker compressed is read by librdkafka and by Java, whatever the producer sent."""
    servers = ["--bootstrap-server", s.broker.bootstrap]
    levels = {"gzip": ["9"], "lz4": ["9", "12"], "zstd": ["3", "19", "-5"]}
    for stored, name in enumerate(["uncompressed", *CODECS[1:]]):
        for level in levels.get(name, [None]):
            topic = f"stored-{name}-{level}"
            configs = [f"compression.type={name}"] + ([f"compression.{name}.level={level}"] if level else [])
            configs = [word for config in configs for word in ("--config", config)]
            s.topics("--create", "--topic", topic, "--partitions", "1", *configs)
            lines = []
            for codec in CODECS:
                sent = [f"{codec} message {i} " + "abcdefgh" * (i % 50) for i in range(300)]
                s.produce(topic, sent, "-p", "0", "-z", codec, "-X", "linger.ms=20")
                lines += sent
            expect_equal(s.consume(topic), lines, f"messages of {topic} by kcat")
            tail = ["--partition", "0", "--offset", "earliest", "--max-messages", str(len(lines)), "--timeout-ms", "30000"]
            out, _ = s.tool("consumer.ConsoleConsumer", *servers, "--topic", topic, *tail)
            expect_equal(out.splitlines(), lines, f"messages of {topic} by Java")
            expect_equal({header["attributes"] & 7 for header in stored_batches(s, topic)}, {stored}, f"codecs of {topic}")


def stored_batches(s, topic):
    """Headers of the batches of partition 0."""
    part = {"Partition": 0, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20}
    topics = [{"Topic": topic, "Partitions": [part]}]
    body = {"ReplicaId": -1, "MaxBytes": 1 << 20, "SessionEpoch": -1, "Topics": topics}
    connection = wire.Connection(s.broker.address)
    try:
        answer = connection.call("Fetch", 11, body)
    finally:
        connection.close()
    headers = wire.batch_headers(answer["Responses"][0]["Partitions"][0]["Records"])
    return [header for header in headers if "torn" not in header]


def kcat_acks(s):
    for acks in ("0", "1", "all"):
        topic = f"acks-{acks}"
        lines = [f"{acks} {i}" for i in range(200)]
        s.produce(topic, lines, "-p", "0", "-X", f"acks={acks}")
        wait_for_end(s, topic, 0, 200)
        expect_equal(s.consume(topic, "-p", "0"), lines, f"messages by acks={acks}")


def wait_for_end(s, topic, partition, end, seconds=10):
    """acks=0 returns before the broker appended."""
    deadline = time.monotonic() + seconds
    while s.offset(topic, partition, -1) < end and time.monotonic() < deadline:
        time.sleep(0.1)


def kcat_idempotent(s):
    lines = [f"once {i}" for i in range(1000)]
    s.produce("once", lines, "-p", "0", "-X", "enable.idempotence=true", "-X", "batch.num.messages=50")
    expect_equal(s.consume("once", "-p", "0"), lines, "messages")
    expect_equal(s.offset("once", 0, -1), 1000, "end offset")


def kcat_ten_thousand(s):
    s.topics("--create", "--topic", "many", "--partitions", "4")
    pairs = [(f"key{i % 97}", f"value {i} " + "x" * (i % 300)) for i in range(10_000)]
    s.produce("many", [f"{k}\t{v}" for k, v in pairs], "-K", "\t", "-z", "lz4", "-X", "acks=all")
    got = [tuple(row.split("\t", 3)) for row in s.consume("many", form="%p\t%o\t%k\t%s\n")]
    expect_equal(len(got), 10_000, "count")
    by_key, by_partition = {}, {}
    for partition, offset, key, value in got:
        by_key.setdefault(key, []).append(value)
        by_partition.setdefault(partition, []).append(int(offset))
    wanted = {}
    for key, value in pairs:
        wanted.setdefault(key, []).append(value)
    expect(by_key == wanted, "every key has its values in order")
    for partition, offsets in by_partition.items():
        expect_equal(offsets, list(range(len(offsets))), f"offsets of partition {partition}")
    expect(len(by_partition) > 1, "keys spread over partitions")


def kcat_large_messages(s):
    # Over the topic's max.message.bytes (1 MiB): refused by the broker, the connection lives on.
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "large")
        for size, accepted in ((900_000, True), (1_500_000, False)):
            with open(path, "wb") as out:
                out.write(bytes(32 + i * 7 % 90 for i in range(1000)) * (size // 1000))
            limits = ["-X", "message.max.bytes=10000000", "-X", "message.timeout.ms=20000"]
            out, err = s.kcat("-P", "-t", "large", "-p", "0", *limits, path, status=None)
            expect_equal("Message size too large" in out + err, not accepted, f"{size} bytes refused\n{err}")
    rows = s.consume("large", "-p", "0", form="%o %S\n")
    expect_equal(rows, ["0 900000"], "messages kept")


def kcat_unknown_topic(s):
    # A consumer's metadata request does not create a topic by default.
    out, err = s.kcat("-C", "-t", "nowhere", "-e", "-p", "0", status=None, seconds=30)
    expect("Unknown topic or partition" in out + err, out + err)
    out, _ = s.kcat("-L", "-J")
    expect("nowhere" not in [t["topic"] for t in json.loads(out)["topics"]], "not created by a consumer")


def kafka_topics(s):
    out, _ = s.topics("--create", "--topic", "shop", "--partitions", "3", "--config", "retention.ms=123456789")
    expect("Created topic shop." in out, out)
    out, err = s.topics("--create", "--topic", "shop", status=1)
    expect("already exists" in out + err, out + err)
    out, _ = s.topics("--list")
    expect("shop" in out.split(), out)
    out, _ = s.topics("--describe", "--topic", "shop")
    head = out.splitlines()[0]
    expect(re.search(r"Topic: shop\s+TopicId: \S{22}\s+PartitionCount: 3\s+ReplicationFactor: 1", head), head)
    expect("retention.ms=123456789" in head, head)
    rows = re.findall(r"Partition: (\d)\s+Leader: (\d+)\s+Replicas: (\d+)\s+Isr: (\d+)", out)
    expect_equal([r[0] for r in rows], ["0", "1", "2"], "partitions described")
    expect(all(leader == replica == isr for _, leader, replica, isr in rows), out)
    out, err = s.topics("--describe", "--topic", "absent", status=1)
    expect("does not exist as expected" in out + err, out + err)


def kafka_topics_delete(s):
    # Deletes `shop` and makes it again: the second one is another topic, and empty.
    s.produce("shop", ["old"] * 5, "-p", "0")
    s.topics("--delete", "--topic", "shop")
    out, _ = s.topics("--list")
    expect("shop" not in out.split(), out)
    s.topics("--create", "--topic", "shop", "--partitions", "1")
    s.produce("shop", ["new"], "-p", "0")
    expect_equal(s.consume("shop", "-p", "0"), ["new"], "messages of the second topic")


def console_clients(s):
    s.topics("--create", "--topic", "console", "--partitions", "2")
    lines = [f"k{i}:line {i}" for i in range(100)]
    properties = ["--property", "parse.key=true", "--property", "key.separator=:"]
    servers = ["--bootstrap-server", s.broker.bootstrap]
    s.tool("ConsoleProducer", *servers, "--topic", "console", *properties, stdin="\n".join(lines).encode())
    counts = [s.offset("console", p, -1) for p in (0, 1)]
    expect_equal(sum(counts), 100, f"end offsets {counts}")
    got = []
    for partition in (0, 1):
        start = 0 if partition == 0 else counts[1] // 2
        out, _ = s.tool(
            "consumer.ConsoleConsumer",
            *servers,
            *["--topic", "console", "--partition", str(partition), "--offset", str(start) if start else "earliest"],
            *["--max-messages", str(counts[partition] - start), "--timeout-ms", "30000"],
            *["--property", "print.key=true", "--property", "key.separator=:", "--property", "print.offset=true"],
        )
        rows = [re.fullmatch(r"Offset:(\d+):(.*)", row) for row in out.splitlines()]
        expect(all(rows), out[:500])
        expect_equal([int(r[1]) for r in rows], list(range(start, counts[partition])), "offsets")
        got += [r[2] for r in rows]
    skipped = counts[1] // 2
    expect_equal(len(got), 100 - skipped, "messages")
    expect(set(got) <= set(lines) and len(set(got)) == len(got), "every message is one of those sent, once")


def perf_test(s, topic, acks, records, partitions=None):
    if partitions:
        s.topics("--create", "--topic", topic, "--partitions", str(partitions))
    out, _ = s.tool(
        "ProducerPerformance",
        *["--topic", topic, "--num-records", str(records), "--record-size", "1000", "--throughput", "-1"],
        *["--producer-props", f"bootstrap.servers={s.broker.bootstrap}", f"acks={acks}"],
    )
    expect(f"{records} records sent" in out, out)


def kafka_producer_perf_test(s):
    # The Java producer's default: idempotent, acks=all. Then acks=1, which turns idempotence off.
    perf_test(s, "perf", "all", 20_000, partitions=3)
    perf_test(s, "perf", "1", 10_000)
    out, _ = s.tool("GetOffsetShell", "--bootstrap-server", s.broker.bootstrap, "--topic", "perf")
    rows = [row.split(":") for row in out.split()]
    expect_equal([r[:2] for r in rows], [["perf", "0"], ["perf", "1"], ["perf", "2"]], "partitions")
    expect_equal(sum(int(r[2]) for r in rows), 30_000, "records")
    expect_equal(len(s.consume("perf", form="%S\n")), 30_000, "records consumed")


def kafka_get_offsets(s):
    servers = ["--bootstrap-server", s.broker.bootstrap, "--topic-partitions", "offsets:0"]
    stamps = [int(t) for t in s.consume("offsets", "-p", "0", form="%T\n")]
    for name, wanted in (("earliest", 0), ("latest", 20), ("max-timestamp", stamps.index(max(stamps)))):
        out, _ = s.tool("GetOffsetShell", *servers, "--time", name)
        expect_equal(out.split(), [f"offsets:0:{wanted}"], name)


def configs(s, *arguments, status=0):
    servers = ["--bootstrap-server", s.broker.bootstrap]
    command = brokers.java_command("kafka.admin.ConfigCommand", *servers, *arguments)
    return execute(command, status=status)


def await_config(s, wanted, present, *entity):
    """A real Kafka shows what was changed a moment later."""
    deadline = time.monotonic() + 15
    while True:
        out, _ = configs(s, "--describe", *entity)
        if (wanted in out) == present:
            return out
        expect(time.monotonic() < deadline, f"{wanted} {'never' if present else 'still'} shown: {out}")


def kafka_configs_topic(s):
    s.topics("--create", "--topic", "tuned", "--partitions", "1")
    entity = ["--entity-type", "topics", "--entity-name", "tuned"]
    configs(s, "--alter", *entity, "--add-config", "retention.ms=123456,cleanup.policy=[compact,delete]")
    out = await_config(s, "retention.ms=123456", True, *entity)
    expect("cleanup.policy=compact,delete" in out, out)
    configs(s, "--alter", *entity, "--delete-config", "retention.ms")
    await_config(s, "retention.ms=123456", False, *entity)
    out, err = configs(s, "--alter", *entity, "--add-config", "retention.ms=soon", status=1)
    expect("Invalid value soon for configuration retention.ms" in out + err, out + err)
    out, err = configs(s, "--alter", *entity, "--add-config", "no.such.config=1", status=1)
    expect("Unknown topic config name: no.such.config" in out + err, out + err)
    # A size that counts at once.
    configs(s, "--alter", *entity, "--add-config", "max.message.bytes=1000")
    out, err = s.kcat("-P", "-t", "tuned", "-k", "k", "-X", "message.timeout.ms=20000", stdin=b"x" * 5000, status=None)
    expect("Message size too large" in out + err, out + err)


def kafka_configs_broker(s):
    connection = wire.Connection(s.broker.address)
    node = str(connection.call("Metadata", 1, {"Topics": []})["Brokers"][0]["NodeId"])
    connection.close()
    s.topics("--create", "--topic", "following", "--partitions", "1")
    for entity in (["--entity-name", node], ["--entity-default"]):
        entity = ["--entity-type", "brokers", *entity]
        configs(s, "--alter", *entity, "--add-config", "log.retention.ms=7654321,message.max.bytes=2000000")
        await_config(s, "log.retention.ms=7654321", True, *entity)
        # Topics that say nothing follow.
        await_config(s, "retention.ms=7654321", True, "--entity-type", "topics", "--entity-name", "following", "--all")
        configs(s, "--alter", *entity, "--delete-config", "log.retention.ms,message.max.bytes")
        await_config(s, "log.retention.ms=7654321", False, *entity)
        out, err = configs(s, "--alter", *entity, "--add-config", "num.partitions=3", status=1)
        expect("Cannot update these configs dynamically" in out + err, out + err)
    # What a start takes with or without effect, a running node takes too.
    configs(s, "--alter", *entity, "--add-config", "num.io.threads=9,log.cleaner.threads=2")
    await_config(s, "num.io.threads=9", True, *entity)
    configs(s, "--alter", *entity, "--delete-config", "num.io.threads,log.cleaner.threads")
    out, _ = configs(s, "--describe", "--all", "--entity-type", "brokers", "--entity-name", node)
    for told in (f"node.id={node}", f"advertised.listeners=PLAINTEXT://{s.broker.bootstrap}", "log.dirs=/", "ssl.protocol="):
        expect(f"  {told}" in out, f"{told} in {out}")
    expect_equal(len(re.findall(r"sensitive=true", out)), 10, "passwords")
    expect(all("=null sensitive=true" in line for line in out.splitlines() if "sensitive=true" in line), out)


def kafka_configs_group(s):
    """What is set on a group is what its members are told, at once and after a restart."""
    s.topics("--create", "--topic", "paced", "--partitions", "1")
    entity = ["--entity-type", "groups", "--entity-name", "paced"]

    def interval():
        """The heartbeat interval that a member is told who joins and leaves."""
        connection = wire.Connection(s.broker.address)
        beat = {"GroupId": "paced", "MemberId": "AAAAAAAAAAAAAAAAAAAAAQ", "RebalanceTimeoutMs": 10_000}
        try:
            deadline = time.monotonic() + 30
            while True:
                connection.call("FindCoordinator", 3, {"Key": "paced", "KeyType": 0})
                joins = {**beat, "MemberEpoch": 0, "SubscribedTopicNames": ["paced"], "TopicPartitions": []}
                told = connection.call("ConsumerGroupHeartbeat", 1, joins)
                if not told["ErrorCode"]:
                    break
                expect(time.monotonic() < deadline, f"no member: {told}")
                time.sleep(0.1)
            connection.call("ConsumerGroupHeartbeat", 1, {**beat, "MemberEpoch": -1})
            return told["HeartbeatIntervalMs"]
        finally:
            connection.close()

    expect_equal(interval(), 5000, "interval of the broker")
    configs(s, "--alter", *entity, "--add-config", "consumer.session.timeout.ms=50000,consumer.heartbeat.interval.ms=6000")
    out = await_config(s, "consumer.session.timeout.ms=50000", True, *entity)
    expect("consumer.heartbeat.interval.ms=6000" in out, out)
    expect_equal(interval(), 6000, "interval of the group")
    # Without a name the tool asks which groups have settings.
    out, _ = configs(s, "--describe", "--entity-type", "groups")
    expect("paced" in out and "consumer.session.timeout.ms=50000" in out, out)
    out, _ = configs(s, "--describe", *entity, "--all")
    expect("share.auto.offset.reset=latest" in out and "streams.num.standby.replicas=0" in out, out)
    for value, reason in (("soon", "Invalid value soon"), ("1000", "group.consumer.min.session.timeout.ms")):
        out, err = configs(s, "--alter", *entity, "--add-config", f"consumer.session.timeout.ms={value}", status=1)
        expect(reason in out + err, out + err)
    out, err = configs(s, "--alter", *entity, "--add-config", "no.such.config=1", status=1)
    expect("Unknown group config name: no.such.config" in out + err, out + err)
    s.broker.stop()
    s.broker.start()
    expect_equal(interval(), 6000, "interval after a restart")
    configs(s, "--alter", *entity, "--delete-config", "consumer.heartbeat.interval.ms")
    out = await_config(s, "consumer.heartbeat.interval.ms=6000", False, *entity)
    expect("consumer.session.timeout.ms=50000" in out, out)
    expect_equal(interval(), 5000, "interval after it was deleted")


def kafka_topics_alter(s):
    s.topics("--create", "--topic", "growing", "--partitions", "2")
    s.topics("--alter", "--topic", "growing", "--partitions", "5")
    out, _ = s.topics("--describe", "--topic", "growing")
    expect("PartitionCount: 5" in out, out)
    s.produce("growing", ["on the new one"], "-p", "4")
    expect_equal(s.consume("growing", "-p", "4"), ["on the new one"], "messages of the new partition")
    out, err = s.topics("--alter", "--topic", "growing", "--partitions", "3", status=1)
    expect("would not be an increase" in out + err, out + err)


def kafka_delete_records(s):
    s.produce("deleted-from", [f"m{i}" for i in range(10)], "-p", "0")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:

        def delete(offset):
            partitions = [{"topic": "deleted-from", "partition": 0, "offset": offset}]
            file.seek(0)
            file.truncate()
            json.dump({"partitions": partitions, "version": 1}, file)
            file.flush()
            servers = ["--bootstrap-server", s.broker.bootstrap]
            return s.tool("DeleteRecordsCommand", *servers, "--offset-json-file", file.name, status=None)[0]

        expect("low_watermark: 4" in delete(4), "the new log start")
        expect_equal(s.offset("deleted-from", 0, -2), 4, "earliest")
        expect_equal(s.consume("deleted-from", "-p", "0", "-o", "beginning"), [f"m{i}" for i in range(4, 10)], "the rest")
        expect("OffsetOutOfRange" in delete(11), "beyond the end")
        expect("low_watermark: 10" in delete(-1), "all of it")
        expect_equal(s.offset("deleted-from", 0, -2), 10, "earliest of nothing")
    # It counts across a kill -9.
    if s.broker.name == "corelane":
        s.broker.kill()
        s.broker.start()
        expect_equal(s.offset("deleted-from", 0, -2), 10, "earliest after kill -9")
    s.produce("deleted-from", ["after"], "-p", "0")
    expect_equal(s.consume("deleted-from", "-p", "0", "-o", "beginning"), ["after"], "after all was deleted")


def kafka_log_dirs(s):
    s.topics("--create", "--topic", "lying", "--partitions", "2")
    s.produce("lying", ["x" * 5000] * 10, "-p", "1")
    servers = ["--bootstrap-server", s.broker.bootstrap]
    out, _ = s.tool("LogDirsCommand", *servers, "--describe", "--topic-list", "lying")
    told = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    dirs = [d for broker in told["brokers"] for d in broker["logDirs"]]
    expect(all(d["error"] is None and d["logDir"].startswith("/") for d in dirs), out)
    sizes = {p["partition"]: p["size"] for d in dirs for p in d["partitions"]}
    expect_equal(sorted(sizes), ["lying-0", "lying-1"], "partitions")
    expect(sizes["lying-0"] == 0 and 50_000 <= sizes["lying-1"] < 60_000, f"sizes {sizes}")


def transactions_refused(s):
    """There are no transactions yet. librdkafka was told UNSUPPORTED_VERSION, and asked again for ever."""
    refused = "Transactional Id authorization failed"
    _, err = s.kcat("-P", "-t", "transactional", "-X", "transactional.id=t", stdin=b"x\n", status=1, seconds=30)
    expect("init_transactions()" in err and refused in err, err)
    perf = ("--topic", "transactional", "--num-records", "1", "--record-size", "1", "--throughput", "-1")
    properties = ("--producer-props", f"bootstrap.servers={s.broker.bootstrap}", "max.block.ms=60000")
    out, err = s.tool("ProducerPerformance", *perf, "--transactional-id", "t", *properties, status=1)
    expect(f"TransactionalIdAuthorizationException: {refused}" in out + err, out + err)


def kafka_cluster(s):
    out, _ = s.tool("ClusterTool", "cluster-id", "--bootstrap-server", s.broker.bootstrap)
    expect(re.search(r"Cluster ID: \S{22}\b", out), out)


def kafka_broker_api_versions(s):
    out, _ = s.tool("BrokerApiVersionsCommand", "--bootstrap-server", s.broker.bootstrap)
    for api in ("Produce(0): 0 to 13", "DeleteRecords(21): 0 to 2", "IncrementalAlterConfigs(44): 0 to 1"):
        expect(api in out, out)


def kafka_features(s):
    out, _ = s.tool("FeatureCommand", "--bootstrap-server", s.broker.bootstrap, "describe")
    expect(re.search(r"Feature: metadata.version\s+SupportedMinVersion: \S+\s+SupportedMaxVersion: 4.1-IV1", out), out)


def kafka_metadata_quorum(s):
    servers = ["--bootstrap-server", s.broker.bootstrap]
    out, _ = s.tool("MetadataQuorumCommand", *servers, "describe", "--status")
    told = dict(re.findall(r"^(\w+):\s+(.*)$", out, re.MULTILINE))
    expect(told["LeaderId"] == "1" and int(told["HighWatermark"]) > 0 and told["MaxFollowerLag"] == "0", out)
    expect(re.search(r'\[{"id": 1, .*"endpoints": \[.*\]}\]', told["CurrentVoters"]), out)
    expect_equal(told["CurrentObservers"], "[]", "observers")
    out, _ = s.tool("MetadataQuorumCommand", *servers, "describe", "--replication")
    rows = [line.split() for line in out.splitlines() if line.strip()]
    expect_equal([(r[0], r[3], r[-1]) for r in rows[1:]], [("1", "0", "Leader")], "replicas")


def kafka_leader_election(s):
    servers = ["--bootstrap-server", s.broker.bootstrap, "--election-type", "preferred"]
    s.topics("--create", "--topic", "led", "--partitions", "1")
    out, _ = s.tool("LeaderElectionCommand", *servers, "--topic", "led", "--partition", "0")
    expect("Valid replica already elected for partitions led-0" in out, out)
    s.tool("LeaderElectionCommand", *servers, "--all-topic-partitions")
    out, err = s.tool("LeaderElectionCommand", *servers, "--topic", "nobody-leads", "--partition", "0", status=None)
    expect("does not exist" in out + err or "No such topic" in out + err, out + err)


def kafka_reassign_partitions(s):
    out, _ = s.tool("reassign.ReassignPartitionsCommand", "--bootstrap-server", s.broker.bootstrap, "--list")
    expect("No partition reassignments found." in out, out)


def restart(s):
    lines = [f"before {i}" for i in range(1000)]
    s.produce("kept", lines, "-p", "0", "-z", "zstd")
    out, _ = s.kcat("-L", "-J")
    topics = sorted(t["topic"] for t in json.loads(out)["topics"])
    status = s.broker.stop()
    # A JVM ends with 143 at SIGTERM; Corelane promises 0.
    expect_equal(status, 143 if s.broker.name == "kafka" else 0, "exit status after SIGTERM")
    s.broker.start()
    out, _ = s.kcat("-L", "-J")
    expect_equal(sorted(t["topic"] for t in json.loads(out)["topics"]), topics, "topics after the restart")
    expect_equal(s.consume("kept", "-p", "0"), lines, "messages after the restart")
    s.produce("kept", ["after"], "-p", "0")
    expect_equal(s.consume("kept", "-p", "0", "-o", "1000"), ["after"], "the next message")


def kill_nine(s):
    # Acknowledged at acks=all, then the process is killed at once: everything is there, and the log goes on densely.
    lines = [f"acked {i}" for i in range(2000)]
    s.produce("killed", lines, "-p", "0", "-X", "acks=all", "-X", "enable.idempotence=true")
    s.broker.kill()
    s.broker.start()
    expect_equal(s.consume("killed", "-p", "0"), lines, "messages after kill -9")
    s.produce("killed", ["after"], "-p", "0", "-X", "acks=all")
    expect_equal(s.consume("killed", "-p", "0", "-o", "2000"), ["after"], "the next message")


def nodes_listed(wanted):
    def check(s):
        out, _ = s.kcat("-L", "-J")
        nodes = json.loads(out)["brokers"]
        expect_equal(len({b["id"] for b in nodes}), wanted, f"nodes in {nodes}")
        expect_equal(len({b["name"] for b in nodes}), wanted, f"addresses in {nodes}")

    return check


def spread(s):
    """Many partitions over all shards, from one bootstrap port, by kcat and by Java."""
    s.topics("--create", "--topic", "spread", "--partitions", "8")
    for partition in range(8):
        s.produce("spread", [f"p{partition} {i}" for i in range(50)], "-p", str(partition), "-z", CODECS[partition % 5])
    rows = s.consume("spread", form="%p %s\n")
    wanted = [f"{p} p{p} {i}" for p in range(8) for i in range(50)]
    expect_equal(sorted(rows), sorted(wanted), "messages")
    perf_test(s, "spread", "all", 8000)
    expect_equal(sum(s.offset("spread", p, -1) for p in range(8)), 8400, "records")


CROSSINGS = "corelane_crossings_total"


def no_crossings(s):
    expect_equal(s.broker.metric(CROSSINGS), 0, "requests whose data crossed a core")


def crossings(s):
    expect(s.broker.metric(CROSSINGS) > 0, "data crosses a core where one port serves them all")


def misrouted(s):
    """Every partition through both ports: a client that is wrong about the owner is served, and counted."""
    s.topics("--create", "--topic", "misrouted", "--partitions", "2")
    before = s.broker.metric(CROSSINGS)
    for shard in (0, 1):
        connection = wire.Connection(("127.0.0.1", s.broker.port + shard))
        for partition in (0, 1):
            data = [{"Index": partition, "Records": wire.batch([b"by %d" % shard], timestamp=int(time.time() * 1000))}]
            body = {"Acks": -1, "TimeoutMs": 5000, "TopicData": [{"Name": "misrouted", "PartitionData": data}]}
            answer = connection.call("Produce", 9, body)["Responses"][0]["PartitionResponses"][0]
            expect_equal((answer["ErrorCode"], answer["BaseOffset"]), (0, shard), f"produce to {partition} by {shard}")
            parts = [{"Partition": partition, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20}]
            body = {"ReplicaId": -1, "MaxWaitMs": 500, "MinBytes": 1, "MaxBytes": 1 << 20, "SessionEpoch": -1}
            body["Topics"] = [{"Topic": "misrouted", "Partitions": parts}]
            answer = connection.call("Fetch", 11, body)["Responses"][0]["Partitions"][0]
            expect_equal(answer["ErrorCode"], 0, f"fetch of {partition} by {shard}")
            batches = wire.batch_headers(answer["Records"])
            expect_equal([b["baseOffset"] for b in batches], list(range(shard + 1)), f"batches of {partition} by {shard}")
        connection.close()
    rows = s.consume("misrouted", form="%p %s\n")
    expect_equal(sorted(rows), ["0 by 0", "0 by 1", "1 by 0", "1 by 1"], "messages")
    # At least one produce and one fetch of each partition went to the wrong core.
    expect(s.broker.metric(CROSSINGS) >= before + 4, "crossings are counted")


def java_round_trip(s):
    servers = ["--bootstrap-server", s.broker.bootstrap]
    lines = [f"java {i}" for i in range(50)]
    s.topics("--create", "--topic", "java", "--partitions", "1")
    s.tool("ConsoleProducer", *servers, "--topic", "java", stdin="\n".join(lines).encode())
    tail = ["--partition", "0", "--offset", "earliest", "--max-messages", "50", "--timeout-ms", "30000"]
    out, _ = s.tool("consumer.ConsoleConsumer", *servers, "--topic", "java", *tail)
    expect_equal(out.splitlines(), lines, "messages")


ONE_NODE = [
    kcat_round_trip,
    kcat_metadata,
    kcat_keys_headers_nulls,
    kcat_offsets,
    kcat_offset_out_of_range,
    kcat_codecs,
    codecs_of_topics,
    kcat_acks,
    kcat_idempotent,
    kcat_ten_thousand,
    kcat_large_messages,
    kcat_unknown_topic,
    kafka_topics,
    kafka_topics_delete,
    console_clients,
    kafka_producer_perf_test,
    kafka_get_offsets,
    kafka_configs_topic,
    kafka_configs_broker,
    kafka_configs_group,
    kafka_topics_alter,
    kafka_delete_records,
    kafka_log_dirs,
    kafka_cluster,
    kafka_broker_api_versions,
    kafka_features,
    kafka_metadata_quorum,
    kafka_leader_election,
    kafka_reassign_partitions,
    restart,
    kill_nine,
]


def named(checks):
    return [(check.__name__, check) for check in checks]


GROUPS = named(group_checks.EVERYWHERE)


def plans(target):
    """(prefix, how to make the broker, checks)."""
    one_node = named([*ONE_NODE[:-2], *group_checks.ONE_NODE, *ONE_NODE[-2:]])
    if target == "kafka":
        return [("", brokers.Kafka, one_node)]
    administration = named(
        [kafka_configs_broker, kafka_configs_group, kafka_delete_records, kafka_log_dirs, transactions_refused]
    )
    two = named([kcat_round_trip, spread, java_round_trip, restart, kill_nine])
    return [
        ("", brokers.Corelane, one_node),
        (
            "two-shards ",
            lambda: brokers.Corelane(shards=2),
            [("nodes", nodes_listed(2)), *two[:3], *named([no_crossings, misrouted]), *administration, *GROUPS, *two[3:]],
        ),
        (
            "single ",
            lambda: brokers.Corelane(shards=2, advertise="single"),
            [("nodes", nodes_listed(1)), *two[:3], *named([crossings]), *administration, *GROUPS, *two[3:]],
        ),
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", choices=["corelane", "kafka"], default="corelane")
    parser.add_argument("--only", default="", help="only checks whose name contains this")
    options = parser.parse_args()
    passed, failed = 0, []
    for prefix, make, checks in plans(options.target):
        checks = [(prefix + name, check) for name, check in checks if options.only in prefix + name]
        if not checks:
            continue
        broker = None
        try:
            broker = make()
            broker.start()
            print(f"# {broker.name} on {broker.bootstrap} {getattr(broker, 'ready_line', '')}")
            session = Session(broker)
            for name, check in checks:
                began = time.monotonic()
                try:
                    if broker.process.poll() is not None:
                        # The check before ended it: say so there, and give the others a broker.
                        broker.start()
                    check(session)
                    passed += 1
                    print(f"ok {name} ({time.monotonic() - began:.1f} s)")
                except Exception as problem:
                    failed.append(name)
                    text = str(problem) if isinstance(problem, Failed) else traceback.format_exc()
                    if broker.process.poll() is not None:
                        text += f"\nthe broker ended with {broker.process.returncode}:\n{broker.log_tail()}"
                    print(f"FAILED {name} ({time.monotonic() - began:.1f} s)\n    " + text.replace("\n", "\n    "))
        except Exception as problem:
            # Without a broker none of its checks can pass.
            failed += [name for name, _ in checks]
            print(f"FAILED {prefix}start: {problem}")
        finally:
            if broker:
                broker.destroy()
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()

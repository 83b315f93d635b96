"""What `compare` asks both brokers: each scenario is a function that sends requests through a `Peer`.

A scenario makes its own topics and leaves other scenarios alone. Its steps are named, and their answers are compared
step by step. Where one answer is needed for the next request (a topic id, a session), it is taken from that broker's own.
"""

import gzip
import struct
import time
import uuid

import wire
from wire import batch, record

ZERO_ID = uuid.UUID(int=0)
STRANGE_ID = uuid.UUID("12345678-1234-4234-8234-123456789012")
T0 = 1_700_000_000_000
FOREVER = 9223372036854775807


def versions(api, low=None):
    r = wire.requests()[api].versions
    # 4.1 hides the unstable InitProducerId 6 and refuses Produce 0-2; the schemas know that already.
    return range(r.low if low is None else low, r.high + 1)


def make_topic(t, name, partitions=1, **configs):
    # The records are of 2023: kept whatever the clock says.
    configs.setdefault("retention_ms", -1)
    configs = [{"Name": k.replace("_", "."), "Value": str(v)} for k, v in configs.items()]
    topic = {"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": configs}
    answer = t.ask("CreateTopics", 7, {"Topics": [topic], "timeoutMs": 10_000})
    assert answer["Topics"][0]["ErrorCode"] == 0, (t.name, name, answer)
    await_leaders(t, name, partitions)
    listed = t.ask("Metadata", 12, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False})["Topics"][0]
    t.ids[listed["TopicId"]] = name
    return listed["TopicId"]


def await_leaders(t, name, partitions=1):
    """Kafka lists a new topic a moment before its partitions take requests."""
    parts = [{"PartitionIndex": p, "Timestamp": -1} for p in range(partitions)]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = t.ask("ListOffsets", 1, {"ReplicaId": -1, "Topics": [{"Name": name, "Partitions": parts}]})
        if not any(p["ErrorCode"] for p in answer["Topics"][0]["Partitions"]):
            return
        time.sleep(0.02)
    raise AssertionError(f"{name} has no leaders")


def produce_body(topic, records, partition=0, acks=-1, topic_id=ZERO_ID, transactional_id=None):
    data = [{"Index": partition, "Records": records}]
    return {
        "TransactionalId": transactional_id,
        "Acks": acks,
        "TimeoutMs": 5000,
        "TopicData": [{"Name": topic, "TopicId": topic_id, "PartitionData": data}],
    }


def fetch_body(topic, offset=0, partition=0, topic_id=ZERO_ID, **more):
    part = {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20}
    part.update({k: more.pop(k) for k in list(more) if k in ("PartitionMaxBytes", "CurrentLeaderEpoch", "LastFetchedEpoch", "LogStartOffset")})
    body = {
        "ReplicaId": -1,
        "MaxWaitMs": 0,
        "MinBytes": 0,
        "MaxBytes": 50 << 20,
        "SessionId": 0,
        "SessionEpoch": -1,
        "Topics": [{"Topic": topic, "TopicId": topic_id, "Partitions": [part]}],
    }
    body.update(more)
    return body


def end_offset(t, topic):
    return t.ask("ListOffsets", 7, list_offsets_body(topic, -1))["Topics"][0]["Partitions"][0]["Offset"]


def list_offsets_body(topic, timestamp, partition=0, **more):
    part = {"PartitionIndex": partition, "Timestamp": timestamp, "CurrentLeaderEpoch": more.pop("CurrentLeaderEpoch", -1)}
    return {"ReplicaId": -1, "Topics": [{"Name": topic, "Partitions": [part]}], **more}


# Scenarios.


def api_versions(t):
    software = {"ClientSoftwareName": "corelane-tests", "ClientSoftwareVersion": "1.0"}
    for v in versions("ApiVersions"):
        t.call(f"v{v}", "ApiVersions", v, software)
    for v in (5, 77, 32767):
        t.raw(f"unknown v{v}", wire.request_header(18, v, 1, flexible=True) + b"\x02a\x02b\0", ("ApiVersions", 0))
    t.raw("v-1", wire.request_header(18, -1, 1), ("ApiVersions", 0))
    for name, version in (("bad name", "1"), ("", "1"), ("a", ""), ("-a", "1"), ("a.b-c", "1.0-x"), ("ä", "1")):
        body = {"ClientSoftwareName": name, "ClientSoftwareVersion": version}
        t.call(f"software {name!r} {version!r}", "ApiVersions", 3, body)


def metadata(t):
    topic_id = make_topic(t, "meta", partitions=3)
    other_id = make_topic(t, "meta-other")
    for v in versions("Metadata"):
        t.call(f"v{v}", "Metadata", v, {"Topics": [{"Name": "meta"}]})
        # Several scenarios made topics: keep this one's.
        t.call(f"v{v} all", "Metadata", v, {"Topics": None if v else []}, only_topics="meta")
    for v in (1, 4, 9, 12):
        t.call(f"v{v} none", "Metadata", v, {"Topics": []})
    for v in (4, 9, 12, 13):
        body = {"Topics": [{"Name": "meta-absent"}], "AllowAutoTopicCreation": False}
        t.call(f"v{v} absent", "Metadata", v, body)
    for name in ("bad/name", "", ".", "..", "x" * 249, "x" * 250, "ü"):
        body = {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False}
        t.call(f"name {name[:10]!r} {len(name)}", "Metadata", 9, body)
        if name != "x" * 249:
            t.call(f"name {name[:10]!r} {len(name)} create", "Metadata", 9, {"Topics": [{"Name": name}]})
    t.call("twice", "Metadata", 9, {"Topics": [{"Name": "meta"}, {"Name": "meta"}]})
    t.call("known and absent", "Metadata", 9, {"Topics": [{"Name": "meta"}, {"Name": "no"}], "AllowAutoTopicCreation": False})
    for v in (8, 9, 10, 11, 12):
        body = {"Topics": [{"Name": "meta"}], "IncludeTopicAuthorizedOperations": True}
        if v <= 10:
            body["IncludeClusterAuthorizedOperations"] = True
        t.call(f"v{v} operations", "Metadata", v, body)
    for v in (12, 13):
        by_id = lambda i, name=None: {"TopicId": i, "Name": name}
        t.call(f"v{v} by id", "Metadata", v, {"Topics": [by_id(topic_id)]})
        t.call(f"v{v} by two ids", "Metadata", v, {"Topics": [by_id(topic_id), by_id(other_id)]})
        t.call(f"v{v} by strange id", "Metadata", v, {"Topics": [by_id(STRANGE_ID)]})
        t.call(f"v{v} by id and name", "Metadata", v, {"Topics": [by_id(topic_id, "meta")]})
        t.call(f"v{v} by id and wrong name", "Metadata", v, {"Topics": [by_id(topic_id, "meta-other")]})
        t.call(f"v{v} neither", "Metadata", v, {"Topics": [by_id(ZERO_ID)]})
        t.call(f"v{v} ids and names", "Metadata", v, {"Topics": [by_id(topic_id), by_id(ZERO_ID, "meta")]})
    t.call("v10 by id", "Metadata", 10, {"Topics": [{"TopicId": topic_id, "Name": "meta"}]})
    t.call("v10 null name", "Metadata", 10, {"Topics": [{"TopicId": topic_id, "Name": None}]})


def auto_create(t):
    t.call("asked", "Metadata", 9, {"Topics": [{"Name": "auto"}]})
    again = {"Topics": [{"Name": "auto"}], "AllowAutoTopicCreation": False}
    await_leaders(t, "auto")
    t.call("there", "Metadata", 9, again)
    t.call("produce does not create", "Produce", 9, produce_body("auto-produce", batch([b"x"])))
    t.call("fetch does not create", "Fetch", 11, fetch_body("auto-fetch"))
    t.call("still absent", "Metadata", 9, {"Topics": [{"Name": "auto-produce"}, {"Name": "auto-fetch"}], "AllowAutoTopicCreation": False})


def create_topics(t):
    def topic(name, partitions=1, factor=1, configs=(), assignments=()):
        return {
            "Name": name,
            "NumPartitions": partitions,
            "ReplicationFactor": factor,
            "Configs": [{"Name": k, "Value": v} for k, v in configs],
            "Assignments": [{"PartitionIndex": p, "BrokerIds": b} for p, b in assignments],
        }

    def create(label, *topics, v=7, **more):
        t.call(label, "CreateTopics", v, {"Topics": list(topics), "timeoutMs": 10_000, **more})

    for v in versions("CreateTopics"):
        create(f"v{v}", topic(f"made-{v}", 2), v=v)
        create(f"v{v} exists", topic(f"made-{v}"), v=v)
        create(f"v{v} validate only", topic(f"valid-{v}"), v=v, validateOnly=True)
        create(f"v{v} defaults", topic(f"defaults-{v}", -1, -1), v=v)
    create("none")
    for name in ("", ".", "..", "a b", "a/b", "x" * 249, "x" * 250, "ü"):
        create(f"name {name[:10]!r} {len(name)}", topic(name))
    create("collides", topic("co.llide"))
    create("collides with it", topic("co_llide"))
    for count in (0, -2):
        create(f"partitions {count}", topic(f"partitions{count}", count))
    for factor in (0, 2, 3, -2):
        create(f"factor {factor}", topic(f"factor{factor}", 1, factor))
    create("unknown config", topic("config1", configs=[("no.such.config", "1")]))
    create("bad value", topic("config2", configs=[("retention.ms", "soon")]))
    create("out of range", topic("config3", configs=[("max.message.bytes", "-1")]))
    create("null value", topic("config4", configs=[("retention.ms", None)]))
    create("bad policy", topic("config5", configs=[("cleanup.policy", "shrink")]))
    create("bad codec", topic("config6", configs=[("compression.type", "bzip2")]))
    create("config twice", topic("config7", configs=[("retention.ms", "1000"), ("retention.ms", "2000")]))
    create("good configs", topic("config8", configs=[("retention.ms", "86400000"), ("cleanup.policy", "compact,delete")]))
    create("config in validation", topic("config9", configs=[("no.such", "1")]), validateOnly=True)
    create("same name twice", topic("twice"), topic("twice"))
    create("good and bad", topic("good"), topic("bad name"))
    node = t.node_id()
    create("assigned", topic("assigned1", -1, -1, assignments=[(0, [node]), (1, [node])]))
    create("assigned and counted", topic("assigned2", 1, 1, assignments=[(0, [node])]))
    create("assigned to nobody", topic("assigned3", -1, -1, assignments=[(0, [])]))
    create("assigned to a stranger", topic("assigned4", -1, -1, assignments=[(0, [4711])]))
    create("assigned twice", topic("assigned5", -1, -1, assignments=[(0, [node, node])]))
    create("assigned with a hole", topic("assigned6", -1, -1, assignments=[(0, [node]), (2, [node])]))
    create("assigned from 1", topic("assigned7", -1, -1, assignments=[(1, [node])]))
    create("no time", topic("hurried"), timeoutMs=0)
    names = ["config4", "config8", "good", "assigned1", "assigned6", "twice", "hurried"]
    t.call("made", "Metadata", 9, {"Topics": [{"Name": n} for n in names], "AllowAutoTopicCreation": False})


def delete_topics(t):
    for v in versions("DeleteTopics"):
        make_topic(t, f"gone-{v}")
        by_name = lambda name: (
            {"Topics": [{"Name": name, "TopicId": ZERO_ID}]} if v >= 6 else {"TopicNames": [name]}
        )
        t.call(f"v{v}", "DeleteTopics", v, {**by_name(f"gone-{v}"), "TimeoutMs": 10_000})
        t.call(f"v{v} absent", "DeleteTopics", v, {**by_name(f"gone-{v}"), "TimeoutMs": 10_000})
    absent = [{"Name": f"gone-{v}"} for v in versions("DeleteTopics")]
    t.call("all gone", "Metadata", 9, {"Topics": absent, "AllowAutoTopicCreation": False})
    topic_id = make_topic(t, "gone-id")
    delete = lambda label, *topics: t.call(
        label, "DeleteTopics", 6, {"Topics": [{"Name": n, "TopicId": i} for n, i in topics], "TimeoutMs": 10_000}
    )
    delete("none")
    delete("strange id", (None, STRANGE_ID))
    delete("neither", (None, ZERO_ID))
    delete("both", ("gone-id", topic_id))
    delete("id and name apart", ("gone-id", ZERO_ID), (None, topic_id))
    delete("name twice", ("gone-id", ZERO_ID), ("gone-id", ZERO_ID))
    make_topic_again = t.ask("Metadata", 9, {"Topics": [{"Name": "gone-id"}], "AllowAutoTopicCreation": False})
    if make_topic_again["Topics"][0]["ErrorCode"]:
        topic_id = make_topic(t, "gone-id")
    delete("by id", (None, topic_id))
    delete("by id again", (None, topic_id))
    make_topic(t, "gone-id")
    t.call("fetch by the old id", "Fetch", 13, fetch_body("gone-id", topic_id=topic_id))
    t.call("produce by the old id", "Produce", 13, produce_body("", batch([b"x"]), topic_id=topic_id))


def produce_versions(t):
    topic_id = make_topic(t, "produced")
    for v in versions("Produce"):
        t.call(f"v{v}", "Produce", v, produce_body("produced", batch([b"%d" % v, b"second"]), topic_id=topic_id))
    for v in (0, 1, 2, 14):
        header = wire.request_header(0, v, 1, flexible=v >= 9)
        t.raw(f"v{v}", header + struct.pack(">hii", -1, 1000, 0), None)
    t.call("stored", "Fetch", 11, fetch_body("produced"))
    t.call("no topics", "Produce", 9, {"Acks": 1, "TimeoutMs": 1000, "TopicData": []})
    t.call("no partitions", "Produce", 9, {"Acks": 1, "TimeoutMs": 1000, "TopicData": [{"Name": "produced"}]})
    for acks in (1, -1):
        t.call(f"acks {acks}", "Produce", 9, produce_body("produced", batch([b"x"]), acks=acks))
    for acks in (2, -2, 99):
        t.call(f"acks {acks}", "Produce", 9, produce_body("produced", batch([b"x"]), acks=acks))
    t.call("acks 2, unknown topic", "Produce", 9, produce_body("nowhere", batch([b"x"]), acks=2))
    t.unanswered("acks 0", "Produce", 9, produce_body("produced", batch([b"x"]), acks=0))
    for v in (3, 9, 13):
        body = produce_body("nowhere", batch([b"x"]), acks=0, topic_id=STRANGE_ID)
        t.unanswered(f"v{v} acks 0 unknown topic", "Produce", v, body)
    t.unanswered("acks 0 bad batch", "Produce", 9, produce_body("produced", batch([b"x"], crc=1), acks=0))
    t.call("end", "ListOffsets", 7, list_offsets_body("produced", -1))
    for v in (3, 7, 9, 12):
        t.call(f"v{v} unknown topic", "Produce", v, produce_body("nowhere", batch([b"x"])))
        t.call(f"v{v} unknown partition", "Produce", v, produce_body("produced", batch([b"x"]), partition=5))
    t.call("negative partition", "Produce", 9, produce_body("produced", batch([b"x"]), partition=-1))
    t.call("invalid name", "Produce", 9, produce_body("bad/name", batch([b"x"])))
    t.call("empty name", "Produce", 9, produce_body("", batch([b"x"])))
    t.call("strange id", "Produce", 13, produce_body("", batch([b"x"]), topic_id=STRANGE_ID))
    t.call("zero id", "Produce", 13, produce_body("", batch([b"x"])))
    t.call("id, unknown partition", "Produce", 13, produce_body("", batch([b"x"]), topic_id=topic_id, partition=9))
    two = produce_body("produced", batch([b"good"]))
    two["TopicData"][0]["PartitionData"].append({"Index": 7, "Records": batch([b"bad"])})
    two["TopicData"].append({"Name": "nowhere", "PartitionData": [{"Index": 0, "Records": batch([b"bad"])}]})
    t.call("good and bad", "Produce", 9, two)
    twice = produce_body("produced", batch([b"one"]))
    twice["TopicData"][0]["PartitionData"].append({"Index": 0, "Records": batch([b"two"])})
    make_topic(t, "produced-twice")
    twice["TopicData"][0]["Name"] = "produced-twice"
    t.call("partition twice", "Produce", 9, twice)
    t.note("end after partition twice", end_offset(t, "produced-twice"))
    t.call("transactional id without a transaction", "Produce", 9, produce_body("produced", batch([b"x"]), transactional_id="tx"))


def produce_batches(t):
    """One wrong thing in each batch; what was stored all the same is read back."""
    make_topic(t, "batches")
    make_topic(t, "batches-log-append", message_timestamp_type="LogAppendTime")
    make_topic(t, "batches-compact", cleanup_policy="compact")
    make_topic(t, "batches-small", max_message_bytes=1000)
    make_topic(t, "batches-limits", message_timestamp_before_max_ms=60_000, message_timestamp_after_max_ms=60_000)
    now = int(time.time() * 1000)

    def step(label, records, topic="batches", v=9, partition=0):
        # Offsets count from the end before the step, so that one step's outcome does not show in the next ones'.
        before = end_offset(t, topic)
        t.call(label, "Produce", v, produce_body(topic, records, partition=partition), origin=before)
        stored = end_offset(t, topic) - before
        t.note(label + ", stored", stored)
        if stored:
            t.call(label + ", read", "Fetch", 11, fetch_body(topic, offset=before), origin=before)

    good = batch([b"good"])
    step("good", good)
    step("null records", None)
    step("empty records", b"")
    step("two batches", good + good)
    for size in (1, 11, 12, 16, 17, 60, 61, len(good) - 1):
        step(f"first {size} bytes", good[:size])
    step("trailing byte", good + b"\0")
    step("trailing rubbish", good + b"rubbish rubbish rubbish")
    for magic in (0, 1, 3, -1):
        step(f"magic {magic}", batch([b"x"], magic=magic))
    step("wrong crc", batch([b"x"], crc=0x12345678))
    step("length 0", batch([b"x"], length=0))
    step("length -1", batch([b"x"], length=-1))
    step("length 48", batch([b"x"], length=48))
    step("length 49", batch([b"x"], length=49))
    step("length 1 short", batch([b"x"], length=len(batch([b"x"])) - 13))
    step("length 1 long", batch([b"x"], length=len(batch([b"x"])) - 11))
    step("length huge", batch([b"x"], length=0x7FFFFFFF))
    step("no records", batch([]))
    step("count 0", batch([b"x"], count=0))
    step("count -1", batch([b"x"], count=-1))
    step("count 2 of 1, delta 0", batch([b"x"], count=2))
    step("count 2 of 1, delta 1", batch([b"x"], count=2, last_offset_delta=1))
    step("count 1 of 2, delta 0", batch([b"x", b"y"], count=1, last_offset_delta=0))
    step("count 1 of 2, delta 1", batch([b"x", b"y"], count=1, last_offset_delta=1))
    step("count huge", batch([b"x"], count=0x7FFFFFFF, last_offset_delta=0x7FFFFFFE))
    step("delta -1", batch([b"x"], last_offset_delta=-1))
    step("base offset 5", batch([b"x"], base_offset=5))
    step("base offset -1", batch([b"x"], base_offset=-1))
    step("leader epoch 7", batch([b"x"], epoch=7))
    step("control", batch([b"x"], attributes=0x20))
    step("control, transactional", batch([b"x"], attributes=0x30, producer_id=5, producer_epoch=0, base_sequence=0))
    step("transactional without id", batch([b"x"], attributes=0x10))
    step("delete horizon", batch([b"x"], attributes=0x40))
    step("unused attribute bits", batch([b"x"], attributes=0x7F80))
    step("producer id without sequence", batch([b"x"], producer_id=4, producer_epoch=0, base_sequence=-1))
    step("sequence without producer id", batch([b"x"], base_sequence=3))
    step("producer id -2", batch([b"x"], producer_id=-2, producer_epoch=0, base_sequence=0))
    # Codecs.
    step("zstd by v6", batch([b"x"], attributes=4), v=6)
    for codec in (5, 6, 7):
        step(f"codec {codec}", batch([b"x"], attributes=codec))
    for codec in (1, 2, 3, 4):
        step(f"rubbish of codec {codec}", batch([b"x"], attributes=codec, payload=b"\x01\x02rubbish that is long enough"))
        step(f"nothing of codec {codec}", batch([b"x"], attributes=codec, payload=b""))
    packed = lambda *records: gzip.compress(b"".join(records))
    step("gzip", batch([b"x"], attributes=1, payload=packed(record(0, b"x"))))
    step("gzip, count 2 of 1", batch([b"x"], attributes=1, count=2, last_offset_delta=1, payload=packed(record(0, b"x"))))
    step("gzip, count 1 of 2", batch([b"x"], attributes=1, payload=packed(record(0, b"x"), record(1, b"y"))))
    step("gzip, trailing bytes inside", batch([b"x"], attributes=1, payload=packed(record(0, b"x"), b"more")))
    step("gzip, cut", batch([b"x"], attributes=1, payload=packed(record(0, b"x" * 100))[:-12]))
    step("gzip, delta 3 of 1 record", batch([b"x"], attributes=1, payload=packed(record(3, b"x"))))
    # Records.
    step("record delta 3", batch([b"x"], payload=record(3, b"x")))
    step("record deltas descend", batch([b"x", b"y"], payload=record(1, b"x") + record(0, b"y")))
    step("trailing bytes in the batch", batch([b"x"], payload=record(0, b"x") + b"more"))
    step("record cut", batch([b"x"], payload=record(0, b"x" * 50)[:-10]))
    step("record length -1", batch([b"x"], payload=wire.varint(-1) + record(0, b"x")[1:]))
    step("record length 0", batch([b"x"], payload=b"\0"))
    step("record length huge", batch([b"x"], payload=wire.varint(1 << 30) + b"\0\0\0"))
    step("record varint endless", batch([b"x"], payload=b"\xff" * 20))
    step("key length huge", batch([b"x"], payload=wire.varint(8) + b"\0\0\0" + wire.varint(1 << 20) + b"\0\0"))
    step("key length -2", batch([b"x"], payload=wire.varint(6) + b"\0\0\0" + wire.varint(-2) + b"\x01\0"))
    step("headers -1", batch([b"x"], payload=wire.varint(6) + b"\0\0\0\x01\x01" + wire.varint(-1)))
    step("headers huge", batch([b"x"], payload=wire.varint(8) + b"\0\0\0\x01\x01" + wire.varint(1 << 20)))
    header_without_key = wire.varint(7) + b"\0\0\0\x01\x01\x02\x01"
    step("header key null", batch([b"x"], payload=header_without_key))
    step("record attributes 1", batch([b"x"], payload=b"\x10\x01" + record(0, b"x")[2:]))
    step("null value", batch([None]))
    step("empty key", batch([b"x"], keys=[b""]))
    step("null key", batch([b"x"], keys=[None]))
    # Sizes.
    step("1000 bytes limit, small", batch([b"x" * 900]), topic="batches-small")
    exact = 1000 - len(batch([b""]))
    for over in (-4, -3, -2, -1, 0, 1):
        step(f"1000 bytes limit {over}", batch([b"x" * (exact + over)]), topic="batches-small")
    step("above the default limit", batch([b"x" * 1_048_600]))
    # Times.
    step("timestamp -1", batch([b"x"], timestamp=-1))
    step("timestamp -2", batch([b"x"], timestamp=-2))
    step("timestamp 0", batch([b"x"], timestamp=0))
    step("max timestamp too low", batch([b"x"], max_timestamp=5))
    step("max timestamp too high", batch([b"x"], max_timestamp=T0 + 5000))
    step("two hours ahead", batch([b"x"], timestamp=now + 7_200_000))
    step("30 minutes ahead", batch([b"x"], timestamp=now + 1_800_000))
    step("far future", batch([b"x"], timestamp=FOREVER))
    step("append time bit", batch([b"x"], attributes=8))
    limits = "batches-limits"
    step("limits, now", batch([b"x"], timestamp=now), topic=limits)
    step("limits, early", batch([b"x"], timestamp=now - 3_600_000), topic=limits)
    step("limits, late", batch([b"x"], timestamp=now + 3_600_000), topic=limits)
    step("limits, no time", batch([b"x"], timestamp=-1), topic=limits)
    mixed = batch([b"x", b"y", b"z"], timestamp=now, timestamp_deltas=[0, -3_600_000, 0], max_timestamp=now)
    step("limits, one of three early", mixed, topic=limits)
    append = "batches-log-append"
    step("append time", batch([b"x", b"y"]), topic=append)
    step("append time, bit set", batch([b"x"], attributes=8), topic=append)
    step("append time, timestamp -1", batch([b"x"], timestamp=-1), topic=append)
    compact = "batches-compact"
    step("compact, key", batch([b"x"]), topic=compact)
    step("compact, null key", batch([b"x"], keys=[None]), topic=compact)
    step("compact, one null key of three", batch([b"x", b"y", b"z"], keys=[b"a", None, b"c"]), topic=compact)
    step("compact, null key by v7", batch([b"x"], keys=[None]), topic=compact, v=7)
    step("compact, gzip null key", batch([b"x"], attributes=1, payload=packed(record(0, b"x"))), topic=compact)


def min_insync_replicas(t):
    """More replicas than a partition has are never waited for: above their number the setting counts as that number."""
    for wanted in (1, 2, 5):
        topic = f"in-sync-{wanted}"
        make_topic(t, topic, min_insync_replicas=wanted, unclean_leader_election_enable="true")
        for acks in (-1, 1):
            t.call(f"{wanted}, acks {acks}", "Produce", 9, produce_body(topic, batch([b"x"]), acks=acks))
    admin_topic(t, "in-sync-later")
    configs = [{"Name": "min.insync.replicas", "ConfigOperation": SET, "Value": "3"}]
    resource = {"ResourceType": 2, "ResourceName": "in-sync-later", "Configs": configs}
    t.call("set later", "IncrementalAlterConfigs", 1, {"Resources": [resource], "ValidateOnly": False})
    t.note("after set", set_on(t, 2, "in-sync-later", {"min.insync.replicas": "3"}))
    t.call("later", "Produce", 9, produce_body("in-sync-later", batch([b"x"])))


def idempotence(t):
    make_topic(t, "once", partitions=2)
    pid = producer_id(t)

    def send(label, sequence, count=1, epoch=0, producer=pid, partition=0, v=9):
        records = batch([b"v"] * count, producer_id=producer, producer_epoch=epoch, base_sequence=sequence)
        t.call(label, "Produce", v, produce_body("once", records, partition=partition))

    send("starts at 0", 0)
    send("duplicate of the only one", 0)
    send("2 to 4", 1, 4)
    send("duplicate of 4 records", 1, 4)
    send("part of it", 2, 2)
    send("overlapping the end", 4, 2)
    send("gap", 9)
    send("next", 5)
    for n in range(6, 12):
        send(f"single {n}", n)
    send("5th newest again", 7)
    send("6th newest again", 6)
    send("oldest again", 0)
    send("newest again", 11)
    send("negative epoch", 12, epoch=-1)
    send("new epoch, not from 0", 12, epoch=1)
    send("new epoch from 0", 0, epoch=1)
    send("old epoch", 1, epoch=0)
    send("old epoch, old duplicate", 11, epoch=0)
    send("epoch jumps", 0, epoch=9)
    send("other partition, unknown producer, from 7", 7, partition=1)
    send("other partition goes on", 8, partition=1)
    # A producer nobody handed out; sequences wrap after 2^31-1.
    send("unknown producer", 2147483645, 2, producer=900_000_000)
    send("up to the end", 2147483647, 1, producer=900_000_000)
    send("wraps to 0", 0, 1, producer=900_000_000)
    send("wraps to 0 again", 0, 1, producer=900_000_000)
    send("over the end in one batch", 2147483646, 4, producer=900_000_001)
    send("after it", 2, 1, producer=900_000_001)
    send("after it, again", 2147483646, 4, producer=900_000_001)
    two = produce_body("once", batch([b"a"], producer_id=900_000_002, producer_epoch=0, base_sequence=0))
    two["TopicData"][0]["PartitionData"].append(
        {"Index": 1, "Records": batch([b"a"], producer_id=900_000_002, producer_epoch=0, base_sequence=5)}
    )
    t.call("two partitions at once", "Produce", 9, two)
    t.call("stored", "Fetch", 11, fetch_body("once"))


def producer_id(t):
    """A fresh one. Kafka's first answers are COORDINATOR_LOAD_IN_PROGRESS: it has no block of ids yet."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = t.ask("InitProducerId", 4, {"TransactionalId": None, "TransactionTimeoutMs": 1000})
        if not answer["ErrorCode"]:
            return answer["ProducerId"]
        time.sleep(0.02)
    raise AssertionError("no producer id")


def init_producer_id(t):
    producer_id(t)
    for v in versions("InitProducerId"):
        if v <= 5:
            t.call(f"v{v}", "InitProducerId", v, {"TransactionalId": None, "TransactionTimeoutMs": 1000})
    t.call("another", "InitProducerId", 4, {"TransactionalId": None, "TransactionTimeoutMs": 1000})
    t.call("no timeout", "InitProducerId", 4, {"TransactionalId": None, "TransactionTimeoutMs": 0})
    t.call("timeout -1", "InitProducerId", 4, {"TransactionalId": None, "TransactionTimeoutMs": -1})
    t.call("transactional id", "InitProducerId", 4, {"TransactionalId": "t", "TransactionTimeoutMs": 1000})
    t.call("empty transactional id", "InitProducerId", 4, {"TransactionalId": "", "TransactionTimeoutMs": 1000})
    for producer, epoch in ((1000, 0), (1000, -1), (-1, 5), (1000, 32767), (123456789, 3)):
        body = {"TransactionalId": None, "TransactionTimeoutMs": 1000, "ProducerId": producer, "ProducerEpoch": epoch}
        t.call(f"knows {producer} {epoch}", "InitProducerId", 4, body)


def fetch_versions(t):
    topic_id = make_topic(t, "fetched", partitions=2)
    for n in range(3):
        t.ask("Produce", 9, produce_body("fetched", batch([b"a%d" % n, b"b%d" % n], timestamp=T0 + n * 1000)))
    for v in versions("Fetch"):
        t.call(f"v{v}", "Fetch", v, fetch_body("fetched", topic_id=topic_id))
        t.call(f"v{v} empty partition", "Fetch", v, fetch_body("fetched", topic_id=topic_id, partition=1))
        t.call(f"v{v} out of range", "Fetch", v, fetch_body("fetched", topic_id=topic_id, offset=99))
        t.call(f"v{v} unknown partition", "Fetch", v, fetch_body("fetched", topic_id=topic_id, partition=9))
        t.call(f"v{v} unknown topic", "Fetch", v, fetch_body("nowhere", topic_id=STRANGE_ID))
    t.call("zero id", "Fetch", 13, fetch_body(""))
    t.call("no topics", "Fetch", 11, fetch_body("x", Topics=[]))
    t.call("no partitions", "Fetch", 11, fetch_body("x", Topics=[{"Topic": "fetched", "Partitions": []}]))
    for offset in (1, 2, 5, 6, 7, -1, -2, FOREVER):
        t.call(f"from {offset}", "Fetch", 11, fetch_body("fetched", offset=offset))
    for name in ("bad/name", ""):
        t.call(f"name {name!r}", "Fetch", 11, fetch_body(name))
    both = fetch_body("fetched")
    both["Topics"][0]["Partitions"].append({"Partition": 0, "FetchOffset": 4, "PartitionMaxBytes": 1 << 20})
    t.call("partition twice", "Fetch", 11, both)
    both = fetch_body("fetched")
    both["Topics"].append({"Topic": "nowhere", "Partitions": [{"Partition": 0, "FetchOffset": 0, "PartitionMaxBytes": 1}]})
    t.call("known and unknown", "Fetch", 11, both)
    for level in (0, 1, 2, -1):
        t.call(f"isolation {level}", "Fetch", 11, fetch_body("fetched", IsolationLevel=level))
    epoch = t.leader_epoch("fetched")
    for label, e in (("current", epoch), ("lower", epoch - 1), ("higher", epoch + 1)):
        t.call(f"leader epoch {label}", "Fetch", 11, fetch_body("fetched", CurrentLeaderEpoch=e if e >= 0 else -1))
        t.call(f"last fetched epoch {label}", "Fetch", 12, fetch_body("fetched", offset=6, LastFetchedEpoch=e))
    t.call("last fetched epoch, beyond its end", "Fetch", 12, fetch_body("fetched", offset=7, LastFetchedEpoch=epoch))
    t.call("last fetched epoch, at 0", "Fetch", 12, fetch_body("fetched", offset=0, LastFetchedEpoch=epoch))
    t.call("log start offset in the request", "Fetch", 11, fetch_body("fetched", LogStartOffset=3))
    t.call("replica 4711", "Fetch", 11, fetch_body("fetched", ReplicaId=4711))
    t.call("debugging replica", "Fetch", 11, fetch_body("fetched", ReplicaId=-2))
    t.call("rack", "Fetch", 11, fetch_body("fetched", RackId="somewhere"))
    # zstd to a version that cannot know it; the records need not be readable for that.
    make_topic(t, "fetched-zstd")
    t.ask("Produce", 9, produce_body("fetched-zstd", batch([b"x"], attributes=4, payload=ZSTD_OF_ONE_RECORD)))
    for v in (9, 10, 12):
        t.call(f"zstd by v{v}", "Fetch", v, fetch_body("fetched-zstd"))


# One raw zstd block (magic, no checksum, single segment, content size) around one record.
_RECORD = record(0, b"x")
ZSTD_OF_ONE_RECORD = (
    b"\x28\xb5\x2f\xfd\x20" + bytes([len(_RECORD)]) + struct.pack("<I", len(_RECORD) << 3 | 1)[:3] + _RECORD
)


def fetch_sizes(t):
    make_topic(t, "sizes", partitions=2)
    small = batch([b"s" * 100])
    for _ in range(4):
        t.ask("Produce", 9, produce_body("sizes", small))
        t.ask("Produce", 9, produce_body("sizes", batch([b"L" * 3000]), partition=1))
    size = len(small)

    def both(label, max_bytes, first, second, order=(0, 1), offset=0, v=11, min_bytes=0):
        parts = [
            {"Partition": p, "FetchOffset": offset, "PartitionMaxBytes": first if p == 0 else second} for p in order
        ]
        body = fetch_body("sizes", MaxBytes=max_bytes, MinBytes=min_bytes)
        body["Topics"][0]["Partitions"] = parts
        t.call(label, "Fetch", v, body, whole_batches=True)

    for limit in (0, 1, size - 1, size, size + 1, 2 * size, 2 * size + 30, 1 << 20):
        both(f"partition limit {limit}", 1 << 20, limit, limit)
        both(f"request limit {limit}", limit, 1 << 20, 1 << 20)
    both("large first, limit 1", 1, 1 << 20, 1 << 20, order=(1, 0))
    both("large second, limit of small", 1 << 20, size, size)
    both("request limit after the first", 4 * size + 10, 1 << 20, 1 << 20)
    both("first empty", 1, 1 << 20, 1 << 20, offset=4)
    both("negative limits", -1, -1, -1)
    both("v3 limits", 1, 1, 1, v=4)
    both("least and most", 10, 1 << 20, 1 << 20, min_bytes=1 << 20)


def fetch_waits(t):
    make_topic(t, "waits", partitions=2)
    wait = dict(MaxWaitMs=400, MinBytes=1)

    def timed(label, body, v=11):
        began = time.monotonic()
        t.call(label, "Fetch", v, body)
        t.note(label + ", waited", time.monotonic() - began > 0.3)

    timed("empty", fetch_body("waits", **wait))
    timed("empty, min 0", fetch_body("waits", MaxWaitMs=400, MinBytes=0))
    timed("empty, no wait", fetch_body("waits", MaxWaitMs=0, MinBytes=1))
    timed("empty, negative wait", fetch_body("waits", MaxWaitMs=-1, MinBytes=1))
    timed("unknown topic", fetch_body("nowhere", **wait))
    timed("unknown partition", fetch_body("waits", partition=7, **wait))
    timed("out of range", fetch_body("waits", offset=5, **wait))
    timed("no topics", fetch_body("x", Topics=[], **wait))
    t.ask("Produce", 9, produce_body("waits", batch([b"x"])))
    timed("there is data", fetch_body("waits", **wait))
    timed("too little data", fetch_body("waits", MaxWaitMs=400, MinBytes=10_000))
    timed("at the end", fetch_body("waits", offset=1, **wait))
    timed("min bytes above the partition's limit", fetch_body("waits", MaxWaitMs=400, MinBytes=10_000, PartitionMaxBytes=10))
    epoch = t.leader_epoch("waits")
    timed("wrong epoch", fetch_body("waits", offset=1, CurrentLeaderEpoch=epoch + 1, **wait))
    with t.second_connection() as other:
        # Parked by one connection, satisfied through another.
        other.write(other.encode("Fetch", 11, fetch_body("waits", offset=1, MaxWaitMs=5000, MinBytes=1)))
        time.sleep(0.2)
        began = time.monotonic()
        t.ask("Produce", 9, produce_body("waits", batch([b"late"])))
        answer = other.decode("Fetch", 11, other.read())
        t.note("woken by a produce", time.monotonic() - began < 2.0)
        t.note("woken by a produce, answer", answer)


def fetch_sessions(t):
    a_id = make_topic(t, "session-a", partitions=2)
    b_id = make_topic(t, "session-b")
    ids = {"session-a": a_id, "session-b": b_id}

    def topics(*parts):
        return [
            {
                "Topic": name,
                "TopicId": ids.get(name, STRANGE_ID),
                "Partitions": [{"Partition": p, "FetchOffset": o, "PartitionMaxBytes": 1 << 20}],
            }
            for name, p, o in parts
        ]

    for v in (7, 11, 12, 13, 17):
        a, b = end_offset(t, "session-a"), end_offset(t, "session-b")

        def fetch(label, session, epoch, parts=(), forgotten=()):
            body = fetch_body("", SessionId=session, SessionEpoch=epoch, Topics=topics(*parts))
            body["ForgottenTopicsData"] = [
                {"Topic": n, "TopicId": ids.get(n, STRANGE_ID), "Partitions": [p]} for n, p in forgotten
            ]
            return t.call(f"v{v} {label}", "Fetch", v, body)

        opened = fetch("open", 0, 0, [("session-a", 0, a), ("session-a", 1, 0), ("session-b", 0, b)])
        session = opened["SessionId"] if opened else 0
        fetch("nothing new", session, 1)
        t.ask("Produce", 9, produce_body("session-a", batch([b"x"])))
        fetch("one is new", session, 2)
        fetch("it is still there", session, 3)
        fetch("consumed", session, 4, [("session-a", 0, a + 1)])
        fetch("nothing after it", session, 5)
        fetch("out of range", session, 6, [("session-b", 0, b + 100)])
        fetch("still out of range", session, 7)
        fetch("mended", session, 8, [("session-b", 0, b)])
        fetch("unknown joins", session, 9, [("session-c", 0, 0)])
        fetch("unknown stays", session, 10)
        fetch("forget", session, 11, [], [("session-c", 0), ("session-a", 1)])
        fetch("after it", session, 12)
        fetch("forget what is not there", session, 13, [], [("session-b", 5)])
        fetch("epoch repeated", session, 13)
        fetch("epoch skipped", session, 99)
        fetch("unknown session", 123_456_789, 1)
        fetch("unknown session closes", 123_456_789, -1, [("session-a", 0, a)])
        fetch("negative epoch", session, -5)
        fetch("session 0, epoch 5", 0, 5)
        fetch("anew", session, 0, [("session-a", 0, a)])
        fetch("the old one", session, 14)
        once = fetch("open another", 0, 0, [("session-a", 0, a)])
        if once and once["SessionId"]:
            fetch("closes it", once["SessionId"], -1, [("session-a", 0, a)])
            fetch("is closed", once["SessionId"], 1)
        fetch("open empty", 0, 0)
    crossing = t.call("open by v12", "Fetch", 12, fetch_body("", SessionEpoch=0, Topics=topics(("session-b", 0, 0))))
    if crossing and crossing["SessionId"]:
        t.call("go on by v13", "Fetch", 13, fetch_body("", SessionId=crossing["SessionId"], SessionEpoch=1, Topics=[]))


def list_offsets(t):
    make_topic(t, "offsets", partitions=2)
    for n, stamps in enumerate(([0, 5, 10], [20, 15], [12, 40, 40], [30])):
        deltas = [s - stamps[0] for s in stamps]
        records = batch([b"%d" % s for s in stamps], timestamp=T0 + stamps[0], timestamp_deltas=deltas, max_timestamp=T0 + max(stamps))
        t.ask("Produce", 9, produce_body("offsets", records))
    for v in versions("ListOffsets"):
        if v > 10:
            continue
        for stamp in (-1, -2, -3, -4, -5, -6, -7, 0, T0 + 7, T0 + 41):
            t.call(f"v{v} {stamp if stamp < 1 else f'T0+{stamp - T0}'}", "ListOffsets", v, list_offsets_body("offsets", stamp))
        t.call(f"v{v} unknown topic", "ListOffsets", v, list_offsets_body("nowhere", -1))
        t.call(f"v{v} unknown partition", "ListOffsets", v, list_offsets_body("offsets", -1, partition=8))
    for plus in (-1, 0, 1, 5, 6, 10, 11, 12, 15, 16, 20, 21, 30, 31, 40, 41):
        t.call(f"T0+{plus}", "ListOffsets", 7, list_offsets_body("offsets", T0 + plus))
    for stamp in (-1, -2, -3, -4, -5, 0, T0):
        t.call(f"empty {stamp}", "ListOffsets", 9, list_offsets_body("offsets", stamp, partition=1))
    epoch = t.leader_epoch("offsets")
    for label, e in (("current", epoch), ("higher", epoch + 1)):
        t.call(f"epoch {label}", "ListOffsets", 7, list_offsets_body("offsets", -1, CurrentLeaderEpoch=e))
    for level in (0, 1, 3):
        t.call(f"isolation {level}", "ListOffsets", 7, list_offsets_body("offsets", -1, IsolationLevel=level))
    t.call("replica 4711", "ListOffsets", 7, list_offsets_body("offsets", -1, ReplicaId=4711))
    t.call("debugging replica", "ListOffsets", 7, list_offsets_body("offsets", -1, ReplicaId=-2))
    twice = list_offsets_body("offsets", -1)
    twice["Topics"][0]["Partitions"].append({"PartitionIndex": 0, "Timestamp": -2})
    t.call("partition twice", "ListOffsets", 7, twice)
    t.call("partition twice v1", "ListOffsets", 1, twice)
    t.call("no topics", "ListOffsets", 7, {"ReplicaId": -1, "Topics": []})
    # Times across compression and the broker's clock.
    make_topic(t, "offsets-gzip")
    inner = gzip.compress(b"".join(record(i, b"v", timestamp_delta=d) for i, d in enumerate((0, 50, 20))))
    t.ask("Produce", 9, produce_body("offsets-gzip", batch([b"a", b"b", b"c"], attributes=1, payload=inner, max_timestamp=T0 + 50)))
    for plus in (0, 1, 20, 50, 51):
        t.call(f"gzip T0+{plus}", "ListOffsets", 7, list_offsets_body("offsets-gzip", T0 + plus))
    t.call("gzip max timestamp", "ListOffsets", 7, list_offsets_body("offsets-gzip", -3))
    make_topic(t, "offsets-append", message_timestamp_type="LogAppendTime")
    t.ask("Produce", 9, produce_body("offsets-append", batch([b"a", b"b"])))
    for stamp in (0, T0, -3):
        t.call(f"append time {stamp}", "ListOffsets", 7, list_offsets_body("offsets-append", stamp))
    make_topic(t, "offsets-untimed")
    t.ask("Produce", 9, produce_body("offsets-untimed", batch([b"a"], timestamp=-1)))
    for stamp in (0, -3):
        t.call(f"untimed {stamp}", "ListOffsets", 7, list_offsets_body("offsets-untimed", stamp))


def offset_for_leader_epoch(t):
    make_topic(t, "epochs", partitions=2)
    t.ask("Produce", 9, produce_body("epochs", batch([b"a", b"b", b"c"])))
    epoch = t.leader_epoch("epochs")

    def ask(label, wanted, current=-1, topic="epochs", partition=0, v=4, replica=-1):
        part = {"Partition": partition, "CurrentLeaderEpoch": current, "LeaderEpoch": wanted}
        body = {"Topics": [{"Topic": topic, "Partitions": [part]}]}
        if v >= 3:
            body["ReplicaId"] = replica
        t.call(label, "OffsetForLeaderEpoch", v, body)

    for v in versions("OffsetForLeaderEpoch"):
        ask(f"v{v}", epoch, v=v)
        ask(f"v{v} unknown topic", epoch, topic="nowhere", v=v)
        ask(f"v{v} unknown partition", epoch, partition=7, v=v)
    ask("empty partition", epoch, partition=1)
    ask("later epoch", epoch + 1)
    ask("far epoch", epoch + 1000)
    ask("epoch -1", -1)
    ask("epoch -2", -2)
    ask("current is right", epoch, epoch)
    ask("current too high", epoch, epoch + 1)
    ask("debugging replica", epoch, replica=-2)
    ask("replica 4711", epoch, replica=4711)
    t.call("no topics", "OffsetForLeaderEpoch", 4, {"ReplicaId": -1, "Topics": []})


def describe_cluster(t):
    for v in versions("DescribeCluster"):
        t.call(f"v{v}", "DescribeCluster", v, {})
        t.call(f"v{v} operations", "DescribeCluster", v, {"IncludeClusterAuthorizedOperations": True})
        if v >= 1:
            for kind in (1, 2, 3, 0):
                t.call(f"v{v} endpoints {kind}", "DescribeCluster", v, {"EndpointType": kind})
    t.call("v2 fenced", "DescribeCluster", 2, {"IncludeFencedBrokers": True})


def describe_configs(t):
    make_topic(t, "configs", retention_ms=123456, cleanup_policy="compact", max_message_bytes=2222)

    def ask(label, kind, name, keys=None, v=4, **more):
        body = {"Resources": [{"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}], **more}
        t.call(label, "DescribeConfigs", v, body)

    keys = ["retention.ms", "cleanup.policy", "max.message.bytes", "flush.messages", "compression.type", "segment.bytes"]
    for v in versions("DescribeConfigs"):
        ask(f"v{v} topic", 2, "configs", keys, v=v)
    ask("topic, all", 2, "configs")
    ask("topic, no keys", 2, "configs", [])
    ask("topic, unknown key", 2, "configs", ["no.such.config", "retention.ms"])
    ask("topic, synonyms", 2, "configs", ["retention.ms", "max.message.bytes", "segment.bytes"], IncludeSynonyms=True)
    ask("absent topic", 2, "nowhere")
    ask("invalid topic", 2, "bad/name")
    ask("empty topic", 2, "")
    node = str(t.node_id())
    broker_keys = ["log.retention.ms", "num.partitions", "message.max.bytes", "log.flush.interval.messages"]
    ask("broker", 4, node, broker_keys)
    ask("other broker", 4, "4711", broker_keys)
    ask("broker by name", 4, "one", broker_keys)
    ask("all brokers", 4, "", broker_keys)
    ask("logger", 8, node, ["kafka.server"])
    for kind in (0, 3, 99, -1):
        ask(f"resource type {kind}", kind, "configs")
    t.call("none", "DescribeConfigs", 4, {"Resources": []})
    same = {"ResourceType": 2, "ResourceName": "configs", "ConfigurationKeys": ["retention.ms"]}
    t.call("twice", "DescribeConfigs", 4, {"Resources": [same, same]})


def framing(t):
    header = wire.request_header
    metadata1 = struct.pack(">i", 0)
    t.raw("good", header(3, 1, 7) + metadata1, ("Metadata", 1))
    t.raw("null client id", header(3, 1, 7, client_id=None) + metadata1, ("Metadata", 1))
    t.raw("empty client id", header(3, 1, 7, client_id="") + metadata1, ("Metadata", 1))
    t.raw("negative correlation id", header(3, 1, -7) + metadata1, ("Metadata", 1))
    t.raw("long client id", header(3, 1, 7, client_id="x" * 30_000) + metadata1, ("Metadata", 1))
    t.raw("client id -2", struct.pack(">hhih", 3, 1, 7, -2) + metadata1, None)
    t.raw("client id too long", struct.pack(">hhih", 3, 1, 7, 500) + metadata1, None)
    t.raw("client id no UTF-8", struct.pack(">hhih", 3, 1, 7, 2) + b"\xff\xfe" + metadata1, ("Metadata", 1))
    for key in (4, 5, 6, 7, 93, 999, -1, 32767):
        t.raw(f"key {key}", header(key, 0, 1), None)
    for key, name in ((0, "Produce"), (1, "Fetch"), (2, "ListOffsets"), (3, "Metadata"), (19, "CreateTopics"), (22, "InitProducerId")):
        for v in (-1, wire.requests()[name].versions.high + 1, 99):
            t.raw(f"{name} v{v}", header(key, v, 1, flexible=True) + b"\0" * 8, None)
    t.raw("Fetch v3", header(1, 3, 1) + struct.pack(">iiii", -1, 0, 0, 0), None)
    t.raw("ListOffsets v0", header(2, 0, 1) + struct.pack(">ii", -1, 0), None)
    for size in range(0, 12):
        t.raw(f"first {size} bytes of the header", (header(3, 1, 7) + metadata1)[:size], None)
    t.raw("no body", header(3, 1, 7), None)
    t.raw("half a length", header(3, 1, 7) + b"\0\0", None)
    t.raw("trailing bytes", header(3, 1, 7) + metadata1 + b"rubbish", ("Metadata", 1))
    for count in (1, 2, 1000, 0x7FFFFFFF, -2, -0x80000000):
        t.raw(f"array of {count}", header(3, 1, 7) + struct.pack(">i", count), None)
    t.raw("name longer than the frame", header(3, 1, 7) + struct.pack(">ih", 1, 500) + b"abc", None)
    t.raw("name length -2", header(3, 1, 7) + struct.pack(">ih", 1, -2), None)
    t.raw("null name", header(3, 1, 7) + struct.pack(">ih", 1, -1), None)
    t.raw("name no UTF-8", header(3, 4, 7) + struct.pack(">ih", 1, 2) + b"\xff\xfe" + b"\0", ("Metadata", 4))
    flexible = header(3, 9, 7, flexible=True)
    t.raw("flexible", flexible + b"\x01\0\0\0\0", ("Metadata", 9))
    t.raw("flexible, compact array huge", flexible + b"\xff\xff\xff\xff\x0f\0\0\0\0", None)
    t.raw("flexible, varint endless", flexible + b"\xff" * 12, None)
    t.raw("flexible, unknown tag", flexible + b"\x01\0\0\0\x01\x63\x02ab", ("Metadata", 9))
    t.raw("flexible, tag too long", flexible + b"\x01\0\0\0\x01\x63\x7fab", None)
    t.raw("flexible, tags too many", flexible + b"\x01\0\0\0\x7f", None)
    t.raw("flexible, tag in the header", header(3, 9, 7) + b"\x01\x63\x01x" + b"\x01\0\0\0\0", ("Metadata", 9))
    t.raw("flexible, header tags cut", header(3, 9, 7) + b"\x05", None)
    t.raw_bytes("frame of 0", struct.pack(">i", 0))
    t.raw_bytes("frame of -1", struct.pack(">i", -1))
    t.raw_bytes("frame of 2^31-1", struct.pack(">i", 0x7FFFFFFF))
    t.raw_bytes("frame of 100 MiB + 1", struct.pack(">i", 100 * 1024 * 1024 + 1))
    t.raw_bytes("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    t.raw_bytes("TLS", bytes.fromhex("16030100a5010000a10303") + b"\0" * 160)
    t.raw_bytes("half a frame, then the end", struct.pack(">i", 100) + b"half", hang_up=True)
    t.raw_bytes("half a length, then the end", b"\0\0", hang_up=True)
    # Requests sent ahead are answered in order.
    with t.second_connection() as c:
        frames = [c.encode("Metadata", 1, {"Topics": []}) for _ in range(5)]
        c.write_raw(b"".join(struct.pack(">i", len(f)) + f for f in frames))
        order = [struct.unpack(">i", c.read()[:4])[0] for _ in frames]
        t.note("pipelined", order)
    with t.second_connection() as c:
        # A parked fetch holds back what was sent after it.
        make_topic(t, "pipelined")
        slow = c.encode("Fetch", 11, fetch_body("pipelined", MaxWaitMs=300, MinBytes=1))
        quick = c.encode("Metadata", 1, {"Topics": []})
        c.write_raw(b"".join(struct.pack(">i", len(f)) + f for f in (slow, quick)))
        t.note("pipelined behind a fetch", [struct.unpack(">i", c.read()[:4])[0] for _ in range(2)])
    with t.second_connection() as c:
        # A bad request after a good one: the good one's answer still comes.
        good = c.encode("Metadata", 1, {"Topics": []})
        bad = header(999, 0, 9)
        c.write_raw(b"".join(struct.pack(">i", len(f)) + f for f in (good, bad)))
        try:
            first = struct.unpack(">i", c.read()[:4])[0]
        except wire.Closed:
            first = "closed"
        t.note("good, then bad", first)
    t.call("still serving", "Metadata", 1, {"Topics": []})


# The requests of admin tools.


def admin_topic(t, name, partitions=1, **configs):
    """A topic whose configuration the scenario changes: nothing is set that it does not name."""
    topic = {
        "Name": name,
        "NumPartitions": partitions,
        "ReplicationFactor": 1,
        "Configs": [{"Name": k.replace("_", "."), "Value": str(v)} for k, v in configs.items()],
    }
    answer = t.ask("CreateTopics", 7, {"Topics": [topic], "timeoutMs": 10_000})
    assert answer["Topics"][0]["ErrorCode"] == 0, (t.name, name, answer)
    await_leaders(t, name, partitions)


def set_on(t, kind, name, wanted):
    """What is set on a resource itself, of the keys of `wanted`. Kafka shows a change a moment after it answered: when it
    is not what is wanted yet, this waits a little."""
    resource = {"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": list(wanted)}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    deadline = time.monotonic() + 5
    while True:
        rows = t.ask("DescribeConfigs", 4, {"Resources": [resource]})["Results"][0]["Configs"]
        found = {row["Name"]: row["Value"] for row in rows if row["ConfigSource"] in (1, 2, 3, 8)}
        if found == wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


SET, DELETE, APPEND, SUBTRACT = range(4)


def incremental_alter_configs(t):
    admin_topic(t, "alter", 2)
    node = str(t.node_id())

    def alter(label, kind, name, *configs, v=1, **more):
        configs = [{"Name": n, "ConfigOperation": o, "Value": value} for n, o, value in configs]
        resource = {"ResourceType": kind, "ResourceName": name, "Configs": configs}
        t.call(label, "IncrementalAlterConfigs", v, {"Resources": [resource], "ValidateOnly": False, **more})

    def topic_has(label, **wanted):
        t.note(label, set_on(t, 2, "alter", {key.replace("_", "."): value for key, value in wanted.items()}))

    for v in versions("IncrementalAlterConfigs"):
        alter(f"v{v}", 2, "alter", ("retention.ms", SET, "777"), v=v)
    alter("two at once", 2, "alter", ("retention.ms", SET, "778"), ("segment.ms", SET, "9999"))
    topic_has("after two", retention_ms="778", segment_ms="9999")
    alter("delete one", 2, "alter", ("segment.ms", DELETE, None))
    alter("delete what is not set", 2, "alter", ("flush.ms", DELETE, None))
    alter("delete what nobody knows", 2, "alter", ("no.such.config", DELETE, None))
    topic_has("after delete", retention_ms="778", segment_ms=None)
    alter("append", 2, "alter", ("cleanup.policy", APPEND, "compact"))
    topic_has("after append", cleanup_policy="delete,compact")
    alter("append again", 2, "alter", ("cleanup.policy", APPEND, "compact,delete"))
    topic_has("after append again", cleanup_policy="delete,compact")
    alter("subtract", 2, "alter", ("cleanup.policy", SUBTRACT, "delete"))
    topic_has("after subtract", cleanup_policy="compact")
    alter("append to what is no list", 2, "alter", ("retention.ms", APPEND, "1"))
    alter("subtract from what is no list", 2, "alter", ("retention.ms", SUBTRACT, "1"))
    alter("append to what nobody knows", 2, "alter", ("no.such.config", APPEND, "1"))
    alter("unknown config", 2, "alter", ("no.such.config", SET, "1"))
    alter("bad value", 2, "alter", ("retention.ms", SET, "soon"))
    alter("out of range", 2, "alter", ("max.message.bytes", SET, "-1"))
    alter("bad policy", 2, "alter", ("cleanup.policy", SET, "shrink"))
    alter("lags cross", 2, "alter", ("min.compaction.lag.ms", SET, "9"), ("max.compaction.lag.ms", SET, "8"))
    alter("good and bad", 2, "alter", ("retention.ms", SET, "1"), ("segment.ms", SET, "x"))
    topic_has("good and bad change nothing", retention_ms="778", segment_ms=None)
    alter("null value", 2, "alter", ("retention.ms", SET, None))
    alter("key twice", 2, "alter", ("retention.ms", SET, "1"), ("retention.ms", SET, "2"))
    alter("validate only", 2, "alter", ("retention.ms", SET, "4242"), ValidateOnly=True)
    alter("validate only, bad", 2, "alter", ("retention.ms", SET, "x"), ValidateOnly=True)
    topic_has("after validation", retention_ms="778")
    alter("nothing", 2, "alter")
    alter("absent topic", 2, "alter-absent", ("retention.ms", SET, "1"))
    alter("absent topic, bad value", 2, "alter-absent", ("retention.ms", SET, "x"))
    alter("invalid topic", 2, "bad/name", ("retention.ms", SET, "1"))
    alter("no topic", 2, "", ("retention.ms", SET, "1"))
    for name in (node, ""):
        label = "broker" if name else "all brokers"
        keys = {"log.retention.ms": "98765432", "log.cleanup.policy": None, "message.max.bytes": "2000000"}
        alter(f"{label}, set", 4, name, ("log.retention.ms", SET, "98765432"), ("message.max.bytes", SET, "2000000"))
        t.note(f"{label}, after set", set_on(t, 4, name, keys))
        alter(f"{label}, append", 4, name, ("log.cleanup.policy", APPEND, "compact"))
        keys["log.cleanup.policy"] = "delete,compact"
        t.note(f"{label}, after append", set_on(t, 4, name, keys))
        resource = {"ResourceType": 2, "ResourceName": "alter", "ConfigurationKeys": ["max.message.bytes"]}
        t.call(f"{label}, topics follow", "DescribeConfigs", 4, {"Resources": [resource], "IncludeSynonyms": True})
        alter(f"{label}, delete", 4, name, *((key, DELETE, None) for key in keys))
        keys = dict.fromkeys(keys)
        t.note(f"{label}, after delete", set_on(t, 4, name, keys))
        alter(f"{label}, read-only", 4, name, ("num.partitions", SET, "3"))
        alter(f"{label}, delete read-only", 4, name, ("num.partitions", DELETE, None))
        alter(f"{label}, bad value", 4, name, ("log.retention.ms", SET, "x"))
        alter(f"{label}, bad policy", 4, name, ("log.cleanup.policy", SET, "shrink"))
        alter(f"{label}, append to no list", 4, name, ("log.retention.ms", APPEND, "1"))
        alter(f"{label}, validate only", 4, name, ("log.retention.ms", SET, "1"), ValidateOnly=True)
        t.note(f"{label}, after validation", set_on(t, 4, name, keys))
    alter("operation 9", 4, node, ("log.cleanup.policy", 9, "delete"))
    alter("broker by name", 4, "one", ("log.retention.ms", SET, "1"))
    alter("other broker", 4, "4711", ("log.retention.ms", SET, "1"))
    for kind in (0, 3, 99, -1):
        alter(f"resource type {kind}", kind, "alter", ("retention.ms", SET, "1"))
    alter("logger of another broker", 8, "4711", ("kafka", SET, "INFO"))
    alter("group without name", 32, "", ("consumer.session.timeout.ms", SET, "50000"))
    same = {"ResourceType": 2, "ResourceName": "alter", "Configs": [{"Name": "retention.ms", "ConfigOperation": SET, "Value": "1"}]}
    t.call("twice", "IncrementalAlterConfigs", 1, {"Resources": [same, same], "ValidateOnly": False})
    t.call("none", "IncrementalAlterConfigs", 1, {"Resources": [], "ValidateOnly": False})
    topic_has("at the end", retention_ms="778", segment_ms=None, cleanup_policy="compact")


def alter_configs(t):
    admin_topic(t, "replace")

    def alter(label, kind, name, *configs, v=2, **more):
        configs = [{"Name": n, "Value": value} for n, value in configs]
        resource = {"ResourceType": kind, "ResourceName": name, "Configs": configs}
        t.call(label, "AlterConfigs", v, {"Resources": [resource], "ValidateOnly": False, **more})

    def has(label, retention_ms, segment_ms):
        t.note(label, set_on(t, 2, "replace", {"retention.ms": retention_ms, "segment.ms": segment_ms}))

    for v in versions("AlterConfigs"):
        alter(f"v{v}", 2, "replace", ("retention.ms", "777"), ("segment.ms", "9999"), v=v)
    has("both", "777", "9999")
    alter("one", 2, "replace", ("segment.ms", "9998"))
    has("the other is gone", None, "9998")
    alter("validate only", 2, "replace", ValidateOnly=True)
    has("after validation", None, "9998")
    alter("bad", 2, "replace", ("segment.ms", "x"))
    alter("unknown", 2, "replace", ("no.such.config", "x"))
    alter("null", 2, "replace", ("segment.ms", None))
    alter("key twice", 2, "replace", ("segment.ms", "1"), ("segment.ms", "2"))
    has("after refusals", None, "9998")
    alter("nothing", 2, "replace")
    has("nothing is set", None, None)
    alter("absent", 2, "replace-absent", ("segment.ms", "9998"))
    node = str(t.node_id())
    alter("broker", 4, node, ("log.retention.ms", "98765432"))
    t.note("broker has", set_on(t, 4, node, {"log.retention.ms": "98765432"}))
    alter("broker, read-only", 4, node, ("num.partitions", "2"))
    alter("broker, nothing", 4, node)
    t.note("broker has nothing", set_on(t, 4, node, {"log.retention.ms": None}))
    alter("logger", 8, node, ("kafka", "INFO"))
    for kind in (0, 3, 99, -1):
        alter(f"resource type {kind}", kind, "replace", ("retention.ms", "1"))


def create_partitions(t):
    admin_topic(t, "grow", 2)
    node = t.node_id()

    def grow(label, *topics, v=3, **more):
        topics = [
            {"Name": n, "Count": c, "Assignments": a and [{"BrokerIds": b} for b in a] if a else a} for n, c, a in topics
        ]
        t.call(label, "CreatePartitions", v, {"Topics": topics, "TimeoutMs": 10_000, "ValidateOnly": False, **more})

    for v in versions("CreatePartitions"):
        grow(f"v{v}", ("grow", 3 + v, None), v=v)
    for count in (6, 5, 0, -1, -2147483648):
        grow(f"count {count}", ("grow", count, None))
    grow("absent", ("grow-absent", 3, None))
    grow("no name", ("", 3, None))
    grow("bad name", ("bad/name", 3, None))
    grow("validate only", ("grow", 9, None), ValidateOnly=True)
    grow("validate only, bad", ("grow", 1, None), ValidateOnly=True)
    grow("assigned", ("grow", 7, [[node]]))
    grow("assigned too few", ("grow", 9, [[node]]))
    grow("assigned too many", ("grow", 8, [[node], [node]]))
    grow("assigned none", ("grow", 9, []))
    grow("assigned to a stranger", ("grow", 8, [[4711]]))
    grow("assigned twice", ("grow", 8, [[node, node]]))
    grow("assigned to nobody", ("grow", 8, [[]]))
    grow("twice", ("grow", 8, None), ("grow", 9, None))
    grow("good and bad", ("grow-absent", 9, None), ("grow", 8, None))
    grow("none")
    await_leaders(t, "grow", 8)
    t.call("grown", "Metadata", 9, {"Topics": [{"Name": "grow"}], "AllowAutoTopicCreation": False})
    t.call("new partition", "Produce", 9, produce_body("grow", batch([b"x"]), partition=7))


def delete_records(t):
    make_topic(t, "shrink", 2)
    make_topic(t, "shrink-compact", cleanup_policy="compact")
    make_topic(t, "shrink-both", cleanup_policy="compact,delete")
    for _ in range(4):
        t.ask("Produce", 9, produce_body("shrink", batch([b"a", b"b", b"c"])))

    def delete(label, *topics, v=2):
        topics = [
            {"Name": n, "Partitions": [{"PartitionIndex": p, "Offset": o} for p, o in rows]} for n, rows in topics
        ]
        t.call(label, "DeleteRecords", v, {"Topics": topics, "TimeoutMs": 5000})

    for v in versions("DeleteRecords"):
        delete(f"v{v}", ("shrink", [(0, 1 + v)]), v=v)
    t.call("earliest", "ListOffsets", 7, list_offsets_body("shrink", -2))
    t.call("fetch what is gone", "Fetch", 11, fetch_body("shrink", 0))
    t.call("fetch inside a batch", "Fetch", 11, fetch_body("shrink", 4))
    delete("behind the start", ("shrink", [(0, 2)]))
    delete("beyond the end", ("shrink", [(0, 13)]))
    delete("-2", ("shrink", [(0, -2)]))
    delete("to the end", ("shrink", [(0, 12)]))
    delete("all of what is empty", ("shrink", [(1, -1)]))
    delete("beyond what is empty", ("shrink", [(1, 1)]))
    delete("absent", ("shrink-absent", [(0, 0)]), ("shrink", [(99, 0), (-1, 0)]))
    delete("compact", ("shrink-compact", [(0, 0)]))
    delete("compact and delete", ("shrink-both", [(0, 0)]))
    delete("twice", ("shrink", [(0, 12), (0, 99)]))
    delete("none")
    delete("no partitions", ("shrink", []))
    t.call("append goes on", "Produce", 9, produce_body("shrink", batch([b"d"])))
    delete("high watermark", ("shrink", [(0, -1)]))
    t.call("both ends", "ListOffsets", 7, list_offsets_body("shrink", -2))
    t.call("by time", "ListOffsets", 7, list_offsets_body("shrink", 0))


def elect_leaders(t):
    admin_topic(t, "elect", 2)
    for v in versions("ElectLeaders"):
        topics = [{"Topic": "elect", "Partitions": [0, 1, 99, -1]}, {"Topic": "elect-absent", "Partitions": [0]}]
        for kind in (0, 1, 5) if v else (0,):
            t.call(f"v{v} type {kind}", "ElectLeaders", v, {"ElectionType": kind, "TopicPartitions": topics, "TimeoutMs": 1000})
        t.call(f"v{v} none", "ElectLeaders", v, {"TopicPartitions": [], "TimeoutMs": 1000})
        everything = t.ask("ElectLeaders", v, {"TopicPartitions": None, "TimeoutMs": 1000})
        rows = [r for r in everything["ReplicaElectionResults"] if r["Topic"] == "elect"]
        t.note(f"v{v} all", [everything.get("ErrorCode"), rows])


def list_partition_reassignments(t):
    admin_topic(t, "reassign")
    t.call("all", "ListPartitionReassignments", 0, {"TimeoutMs": 1000, "Topics": None})
    for name in ("reassign", "reassign-absent"):
        topics = [{"Name": name, "PartitionIndexes": [0, 9]}]
        t.call(name, "ListPartitionReassignments", 0, {"TimeoutMs": 1000, "Topics": topics})


def describe_client_quotas(t):
    filters = {
        "everything": [],
        "default user": [("user", 1, None)],
        "a user of a client": [("user", 0, "u"), ("client-id", 0, "c")],
        "any address": [("ip", 2, None)],
        "strange type": [("tenant", 2, None)],
        "empty type": [("", 2, None)],
        "type twice": [("user", 2, None), ("user", 1, None)],
        "exact without name": [("user", 0, None)],
        "default with name": [("user", 1, "u")],
        "any with name": [("user", 2, "u")],
        "match 7": [("user", 7, None)],
        "address of a user": [("user", 2, None), ("ip", 2, None)],
    }
    for v in versions("DescribeClientQuotas"):
        for label, components in filters.items():
            components = [{"EntityType": e, "MatchType": m, "Match": name} for e, m, name in components]
            t.call(f"v{v} {label}", "DescribeClientQuotas", v, {"Components": components, "Strict": False})


def list_config_resources(t):
    admin_topic(t, "listed-config")
    t.call("v0", "ListConfigResources", 0, {})
    for types in ([4], [16], [32], [0], [99], [2, 99]):
        t.call(f"v1 {types}", "ListConfigResources", 1, {"ResourceTypes": types})
    for types in ([2], [2, 2], []):
        answer = t.ask("ListConfigResources", 1, {"ResourceTypes": types})
        wanted = [r for r in answer["ConfigResources"] if r["ResourceName"] == "listed-config"]
        t.note(f"v1 {types}", [answer["ErrorCode"], wanted])


def describe_topic_partitions(t):
    for name, count in (("paged-a", 3), ("paged-b", 1)):
        t.ids[make_topic(t, name, count)] = name

    def page(label, topics, cursor=None, limit=2000):
        cursor = cursor and {"TopicName": cursor[0], "PartitionIndex": cursor[1]}
        body = {"Topics": [{"Name": n} for n in topics], "ResponsePartitionLimit": limit, "Cursor": cursor}
        t.call(label, "DescribeTopicPartitions", 0, body)

    both = ["paged-b", "paged-a"]
    page("both", both)
    page("twice", both + both)
    for limit in (-1, 0, 1, 2, 3, 4, 5):
        page(f"limit {limit}", both, limit=limit)
        page(f"limit {limit}, three", both + ["paged-c"], limit=limit)
    for cursor in (("paged-a", 0), ("paged-a", 2), ("paged-a", 3), ("paged-a", 99), ("paged-b", 0)):
        page(f"cursor {cursor}", both, cursor)
    page("cursor elsewhere", both, ("paged-c", 0))
    page("negative cursor", both, ("paged-a", -1))
    page("absent", ["paged-absent"])
    page("invalid", ["bad/name"])


def describe_quorum(t):
    def ask(label, v, *topics):
        topics = [{"TopicName": n, "Partitions": [{"PartitionIndex": p} for p in ps]} for n, ps in topics]
        t.call(label, "DescribeQuorum", v, {"Topics": topics})

    for v in versions("DescribeQuorum"):
        ask(f"v{v}", v, ("__cluster_metadata", [0]))
        ask(f"v{v} partition 1", v, ("__cluster_metadata", [1]))
        ask(f"v{v} twice", v, ("__cluster_metadata", [0, 0]))
        ask(f"v{v} other topic", v, ("elsewhere", [0]))
        ask(f"v{v} both", v, ("__cluster_metadata", [0]), ("elsewhere", [0]))
        ask(f"v{v} none", v)


def describe_log_dirs(t):
    make_topic(t, "sized", 2)
    t.ask("Produce", 9, produce_body("sized", batch([b"x" * 1000])))
    for v in versions("DescribeLogDirs"):
        topics = [{"Topic": "sized", "Partitions": [0, 0, 1, 9]}, {"Topic": "sized-absent", "Partitions": [0]}]
        t.call(f"v{v}", "DescribeLogDirs", v, {"Topics": topics})
    t.call("none", "DescribeLogDirs", 4, {"Topics": []})
    everything = t.ask("DescribeLogDirs", 4, {"Topics": None})["Results"]
    named = [topic["Partitions"] for d in everything for topic in d["Topics"] if topic["Name"] == "sized"]
    t.note("all", [sorted(p["PartitionIndex"] for p in parts) for parts in named])


def describe_producers(t):
    make_topic(t, "written-by", 2)
    producer = t.ask("InitProducerId", 4, {"TransactionalId": None, "TransactionTimeoutMs": 60_000})

    def ask(label, *topics):
        topics = [{"Name": n, "PartitionIndexes": p} for n, p in topics]
        t.call(label, "DescribeProducers", 0, {"Topics": topics})

    ask("nobody", ("written-by", [0, 1]))
    records = batch([b"x", b"y"], producer_id=producer["ProducerId"], producer_epoch=0, base_sequence=0)
    t.ask("Produce", 9, produce_body("written-by", records))
    ask("one", ("written-by", [0, 1]))
    ask("absent", ("written-by-nobody", [0]), ("written-by", [99, -1]))
    ask("invalid", ("bad/name", [0]))
    ask("none")
    ask("no partitions", ("written-by", []))


SCENARIOS = [
    api_versions,
    metadata,
    auto_create,
    create_topics,
    delete_topics,
    produce_versions,
    produce_batches,
    init_producer_id,
    min_insync_replicas,
    idempotence,
    fetch_versions,
    fetch_sizes,
    fetch_waits,
    fetch_sessions,
    list_offsets,
    offset_for_leader_epoch,
    describe_cluster,
    describe_configs,
    incremental_alter_configs,
    alter_configs,
    create_partitions,
    delete_records,
    elect_leaders,
    list_partition_reassignments,
    describe_client_quotas,
    list_config_resources,
    describe_topic_partitions,
    describe_quorum,
    describe_log_dirs,
    describe_producers,
    framing,
]

"""What `compare` asks about `compression.type`: batches of every codec, sent to topics of every codec. As in `scenarios`.

Compressed bytes differ from encoder to encoder, so headers are compared without their length, and records once they are
decompressed, where Python can. `drive` proves that real consumers read them all.
"""

import gzip
import struct
import time

import wire
from scenarios import DELETE, SET, T0, end_offset, fetch_body, make_topic, produce_body, producer_id, set_on
from wire import batch, record

TARGETS = ("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")
TOPIC, NODE = 2, 4


def snappy(data):
    """One raw block that holds a literal."""
    return wire.uvarint(len(data)) + bytes([62 << 2]) + struct.pack("<I", len(data) - 1)[:3] + data


def lz4(data):
    """A frame of one block that is stored as it is."""
    return b"\x04\x22\x4d\x18\x60\x40\x82" + struct.pack("<I", len(data) | 1 << 31) + data + bytes(4)


def zstd(data):
    """A frame of one raw block, its content size in four bytes."""
    head = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data))
    return head + struct.pack("<I", len(data) << 3 | 1)[:3] + data


PACK = [lambda data: data, gzip.compress, snappy, lz4, zstd]
NAMES = ("none", "gzip", "snappy", "lz4", "zstd")
UNPACK = {0: lambda data: data, 1: gzip.decompress}


def stored(t, topic, offset=0):
    """The batches of a topic from `offset`: headers without length, records where they can be read here."""
    answer = t.ask("Fetch", 11, fetch_body(topic, offset=offset))
    data = answer["Responses"][0]["Partitions"][0]["Records"] or b""
    found, at = [], 0
    for header in wire.batch_headers(data):
        end = at + 12 + header.pop("length")
        unpack = UNPACK.get(header["attributes"] & 7)
        records = unpack(data[at + 61 : end]).hex() if unpack else "not read here"
        # Offsets count from what was there before: a refusal that differs does not show in the steps behind it.
        found.append({**header, "baseOffset": header["baseOffset"] - offset, "records": records[:2000]})
        at = end
    return found


def step(t, label, topic, records, v=9):
    before = end_offset(t, topic)
    answer = t.call(label, "Produce", v, produce_body(topic, records), origin=before)
    t.note(label + ", stored", stored(t, topic, before))
    return answer


RICH = [
    record(0, b"value " * 20, b"key", headers=[("trace".encode(), b"1"), (b"", None)]),
    record(1, None, b"tombstone", timestamp_delta=7),
    record(2, b"", None, timestamp_delta=-3),
]


def rich(codec, **more):
    more = {"max_timestamp": T0 + 7, **more}
    attributes = codec | more.pop("attributes", 0)
    return batch([b""] * 3, attributes=attributes, payload=PACK[codec](b"".join(RICH)), **more)


def compression_type(t):
    for target in TARGETS:
        topic = f"stored-{target}"
        make_topic(t, topic, compression_type=target)
        for codec, name in enumerate(NAMES):
            step(t, f"{target} from {name}", topic, rich(codec))
        step(t, f"{target}, in Produce 3", topic, rich(1), v=3)
        step(t, f"{target}, zstd in Produce 6", topic, rich(4), v=6)
        for version in (4, 9, 10, 12):
            # zstd came with version 10; nobody is refused for that.
            part = t.ask("Fetch", version, fetch_body(topic))["Responses"][0]["Partitions"][0]
            codecs = [header.get("attributes") for header in wire.batch_headers(part["Records"])]
            t.note(f"{target}, Fetch {version}", {"ErrorCode": part["ErrorCode"], "codecs": codecs})


def compression_of_odd_batches(t):
    for target in ("zstd", "uncompressed"):
        topic = f"odd-{target}"
        make_topic(t, topic, compression_type=target)
        source = 0 if target == "zstd" else 1
        pack = PACK[source]
        odd = lambda label, **more: step(t, f"{target}, {label}", topic, rich(source, **more))
        odd("delete horizon", attributes=0x40)
        odd("unused attribute bits", attributes=0x7F80)
        odd("control", attributes=0x20)
        odd("leader epoch 7", epoch=7)
        odd("max timestamp too low", max_timestamp=5)
        odd("max timestamp too high", max_timestamp=T0 + 5000)
        odd("timestamp -1", timestamp=-1, max_timestamp=-1)
        odd("count 2 of 3", count=2, last_offset_delta=1)
        odd("count 4 of 3", count=4, last_offset_delta=3)
        odd("wrong crc", crc=0x12345678)
        one = lambda payload, **more: batch([b"x"], attributes=source, payload=pack(payload), **more)
        step(t, f"{target}, no time", topic, one(record(0, b"x"), timestamp=-1))
        step(t, f"{target}, record cut", topic, one(record(0, b"x" * 50)[:-10]))
        step(t, f"{target}, trailing bytes", topic, one(record(0, b"x") + b"more"))
        step(t, f"{target}, delta 3 of 1 record", topic, one(record(3, b"x")))
        step(t, f"{target}, first record late", topic, one(record(0, b"x", timestamp_delta=5)))
        step(t, f"{target}, append time bit", topic, rich(source, attributes=8))
        pid = producer_id(t)
        once = lambda sequence, epoch=0: rich(source, producer_id=pid, producer_epoch=epoch, base_sequence=sequence)
        step(t, f"{target}, sequence 0", topic, once(0))
        step(t, f"{target}, sequence 0 again", topic, once(0))
        step(t, f"{target}, sequence 9", topic, once(9))
        step(t, f"{target}, sequence 3", topic, once(3))
        append = f"odd-append-{target}"
        make_topic(t, append, compression_type=target, message_timestamp_type="LogAppendTime")
        step(t, f"{target}, append time", append, rich(source))
        step(t, f"{target}, append time, bit set", append, rich(source, attributes=8))
        compact = f"odd-compact-{target}"
        make_topic(t, compact, compression_type=target, cleanup_policy="compact")
        step(t, f"{target}, compact, one null key", compact, rich(source))


def compression_and_sizes(t):
    plain = batch([b"x" * 5000])
    packed = batch([b"x" * 5000], attributes=1, payload=gzip.compress(record(0, b"x" * 5000, b"k0")))
    make_topic(t, "sizes-grows", compression_type="uncompressed", max_message_bytes=len(plain))
    step(t, "grows to the limit", "sizes-grows", packed)
    make_topic(t, "sizes-too-large", compression_type="uncompressed", max_message_bytes=len(plain) - 1)
    step(t, "grows beyond the limit", "sizes-too-large", packed)
    make_topic(t, "sizes-shrinks", compression_type="gzip", max_message_bytes=len(plain) - 1)
    step(t, "too large before it shrinks", "sizes-shrinks", plain)
    # A segment of a topic has a mebibyte at least.
    make_topic(t, "sizes-segment", compression_type="uncompressed", segment_bytes=1 << 20, max_message_bytes=4 << 20)
    large = batch([b"x"], attributes=1, payload=gzip.compress(record(0, b"x" * (1 << 20), b"k0")))
    step(t, "grows beyond the segment", "sizes-segment", large)


def compression_that_changes(t):
    """Set on the topic, on the node and for all nodes, while the broker runs."""
    make_topic(t, "changes")
    node = str(t.node_id())
    current = None

    def alter(label, kind, name, value, **levels):
        configs = {"compression.type": value, **{k.replace("_", "."): v for k, v in levels.items()}}
        rows = [{"Name": n, "ConfigOperation": DELETE if v is None else SET, "Value": v} for n, v in configs.items()]
        body = {"Resources": [{"ResourceType": kind, "ResourceName": name, "Configs": rows}], "ValidateOnly": False}
        t.call(label, "IncrementalAlterConfigs", 1, body)
        t.note(label + ", set", set_on(t, kind, name, configs))

    def codec(label):
        """Kafka takes a change in a moment after it shows it."""
        deadline = time.monotonic() + 5
        while True:
            before = end_offset(t, "changes")
            t.ask("Produce", 9, produce_body("changes", rich(2)))
            found = NAMES[stored(t, "changes", before)[0]["attributes"] & 7]
            if found == current or time.monotonic() > deadline:
                return t.note(label, found)
            time.sleep(0.05)

    def described(label):
        keys = ["compression.type", "compression.gzip.level", "compression.lz4.level", "compression.zstd.level"]
        resource = {"ResourceType": TOPIC, "ResourceName": "changes", "ConfigurationKeys": keys}
        t.call(label, "DescribeConfigs", 4, {"Resources": [resource], "IncludeSynonyms": True})

    described("described as it is")
    current = "snappy"
    codec("as it came")
    alter("for all", NODE, "", "gzip", compression_gzip_level="9")
    current = "gzip"
    codec("as all")
    alter("on the node", NODE, node, "lz4")
    current = "lz4"
    codec("as the node")
    alter("on the topic", TOPIC, "changes", "zstd", compression_zstd_level="-3")
    current = "zstd"
    codec("as the topic")
    described("described with everything")
    alter("on the topic, uncompressed", TOPIC, "changes", "uncompressed")
    current = "none"
    codec("uncompressed")
    alter("on the topic, producer", TOPIC, "changes", "producer")
    current = "snappy"
    codec("producer")
    alter("not on the topic", TOPIC, "changes", None, compression_zstd_level=None)
    alter("not on the node", NODE, node, None)
    alter("not for all", NODE, "", None, compression_gzip_level=None)
    codec("as it came, again")
    for name, value in (
        ("compression.type", "none"),
        ("compression.type", "ZSTD"),
        ("compression.type", ""),
        ("compression.gzip.level", "0"),
        ("compression.gzip.level", "10"),
        ("compression.gzip.level", "-1"),
        ("compression.lz4.level", "0"),
        ("compression.lz4.level", "18"),
        ("compression.zstd.level", "23"),
        ("compression.zstd.level", "-131073"),
    ):
        for kind, resource in ((TOPIC, "changes"), (NODE, "")):
            rows = [{"Name": name, "ConfigOperation": SET, "Value": value}]
            body = {"Resources": [{"ResourceType": kind, "ResourceName": resource, "Configs": rows}]}
            t.call(f"{name}={value!r} of {kind}", "IncrementalAlterConfigs", 1, {**body, "ValidateOnly": True})


SCENARIOS = [compression_type, compression_of_odd_batches, compression_and_sizes, compression_that_changes]

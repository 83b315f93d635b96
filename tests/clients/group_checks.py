"""Checks of consumer groups with real clients: kcat, and the tools of Apache Kafka, by both protocols. As in `drive`."""

import json
import re
import tempfile
import time

import brokers
import wire
from session import execute, expect, expect_equal

LZ4 = 3
CLASSIC, CONSUMER = "classic", "consumer"


def until(seconds, condition, what):
    """Waits for a condition; `what` is called for the text of the failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < deadline, what() if callable(what) else what)
        time.sleep(0.1)


def console(s, topic, group, protocol, *arguments):
    """The command of a kafka-console-consumer in a group."""
    return brokers.java_command(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *["--bootstrap-server", s.broker.bootstrap, "--topic", topic, "--group", group],
        *["--consumer-property", f"group.protocol={protocol}", *arguments],
    )


def offsets_of(text):
    """kafka-consumer-groups --describe: {(topic, partition): (current, end, lag, member or -)}."""
    row = r"^(?:\S+)\s+(\S+)\s+(\d+)\s+(-|\d+)\s+(-|\d+)\s+(-|\d+)\s+(\S+)"
    return {(t, int(p)): (at, end, lag, member) for t, p, at, end, lag, member in re.findall(row, text, re.MULTILINE)}


def committed(s, group):
    """What a group has committed: {(topic, partition): offset}."""
    rows = offsets_of(s.groups("--describe", "--group", group))
    return {key: int(row[0]) for key, row in rows.items() if row[0] != "-"}


def console_group(protocol):
    def check(s):
        topic = group = f"console-{protocol}"
        s.topics("--create", "--topic", topic, "--partitions", "3")
        first = [f"first {i}" for i in range(30)]
        for p in range(3):
            s.produce(topic, first[p::3], "-p", str(p))
        ends = ["--max-messages", "30", "--timeout-ms", "30000"]
        out, _ = execute(console(s, topic, group, protocol, "--from-beginning", *ends))
        expect_equal(sorted(out.splitlines()), sorted(first), "messages of the first consumer")
        # The next one goes on where the first has stopped.
        second = [f"second {i}" for i in range(10)]
        s.produce(topic, second, "-p", "1")
        out, _ = execute(console(s, topic, group, protocol, "--max-messages", "10", "--timeout-ms", "30000"))
        expect_equal(out.splitlines(), second, "messages of the second consumer")
        text = s.groups("--describe", "--group", group)
        expect("has no active members" in text, text)
        wanted = {(topic, p): (str(n), str(n), "0", "-") for p, n in ((0, 10), (1, 20), (2, 10))}
        expect_equal(offsets_of(text), wanted, "offsets described")

    check.__name__ = f"console_group_{protocol}"
    return check


def group_members(protocol):
    """Two consumers of a group share the partitions; the tool tells so; one goes, the other has them all."""

    def check(s):
        topic = group = f"members-{protocol}"
        s.topics("--create", "--topic", topic, "--partitions", "4")
        one_more = lambda: s.running(console(s, topic, group, protocol))

        def owners():
            rows = offsets_of(s.groups("--describe", "--group", group))
            return sorted(row[3] for key, row in rows.items() if row[3] != "-")

        with one_more() as first:
            with one_more() as second:
                until(60, lambda: len(set(owners())) == 2, lambda: f"two members: {owners()} {first.errors()}")
                members = owners()
                expect_equal(sorted(members.count(m) for m in set(members)), [2, 2], "partitions of each")
                text = s.groups("--describe", "--group", group, "--members", "--verbose")
                expect(text.count("console-consumer") >= 2 and f"{topic}:" in text.replace("(", ":"), text)
                text = s.groups("--describe", "--group", group, "--state")
                expect(re.search(rf"{group}\s+\S+:\d+\s+\(\d+\)\s+(range|uniform)\s+Stable\s+2", text), text)
                kind = "Classic" if protocol == CLASSIC else "Consumer"
                text = s.groups("--list", "--type", "--state")
                expect(re.search(rf"^{group}\s+{kind}\s+Stable", text, re.MULTILINE), text)
                text = s.groups("--delete", "--group", group, status=None)
                expect("GroupNotEmptyException" in text or "not empty" in text, text)
                lines = [f"shared {i}" for i in range(40)]
                for p in range(4):
                    s.produce(topic, lines[p::4], "-p", str(p))
                until(30, lambda: len(first.lines() + second.lines()) >= 40, "all messages are read")
                expect_equal(sorted(first.lines() + second.lines()), sorted(lines), "messages of both")
                expect(first.lines() and second.lines(), "both read")
            until(60, lambda: len(set(owners())) == 1 and len(owners()) == 4, lambda: f"one member: {owners()}")
            s.produce(topic, ["to the last"], "-p", "3")
            until(30, lambda: "to the last" in first.lines() or "to the last" in second.lines(), "the one that stays reads")
        # It left, and what it had read is committed.
        text = s.groups("--describe", "--group", group, "--state")
        expect("has no active members" in text and "Empty" in text, text)
        expect_equal(sum(committed(s, group).values()), 41, "offsets committed")
        text = s.groups("--delete", "--group", group)
        expect("was successful" in text, text)
        text = s.groups("--list")
        expect(group not in text.split(), text)

    check.__name__ = f"group_members_{protocol}"
    return check


def reset_offsets(s):
    """kafka-consumer-groups moves the offsets of a group that nobody is in, in each of its ways, and deletes them."""
    group = topic = "resetting"
    s.topics("--create", "--topic", topic, "--partitions", "2")
    s.produce(topic, [f"old {i}" for i in range(6)], "-p", "0")
    s.produce(topic, [f"old {i}" for i in range(4)], "-p", "1")
    time.sleep(1.1)
    middle = time.strftime("%Y-%m-%dT%H:%M:%S.000", time.gmtime())
    time.sleep(1.1)
    s.produce(topic, ["new"], "-p", "0")

    def reset(*how, on=topic, execute_it=True):
        mode = "--execute" if execute_it else "--dry-run"
        text = s.groups("--reset-offsets", "--group", group, "--topic", on, *how, mode)
        rows = re.findall(rf"^{group}\s+{topic}\s+(\d+)\s+(\d+)", text, re.MULTILINE)
        return [int(offset) for _, offset in sorted(rows)]

    at = lambda: [offset for _, offset in sorted(committed(s, group).items())]
    # The group comes to be by it.
    expect_equal(reset("--to-latest"), [7, 4], "to the end")
    expect_equal(at(), [7, 4], "committed")
    expect_equal(reset("--to-earliest", execute_it=False), [0, 0], "dry run")
    expect_equal(at(), [7, 4], "a dry run changes nothing")
    expect_equal(reset("--shift-by", "-2"), [5, 2], "shifted")
    expect_equal(reset("--to-offset", "3", on=f"{topic}:0"), [3], "one partition")
    expect_equal(reset("--to-offset", "99"), [7, 4], "beyond the end")
    expect_equal(reset("--to-datetime", middle), [6, 4], "to a time")
    expect_equal(reset("--by-duration", "PT1H"), [0, 0], "by a duration")
    expect_equal(reset("--to-current"), [0, 0], "to where it is")
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write(f"{topic},0,2\n{topic},1,3\n")
        file.flush()
        text = s.groups("--reset-offsets", "--group", group, "--from-file", file.name, "--execute")
    expect_equal(at(), [2, 3], f"from a file: {text}")
    text = s.groups("--reset-offsets", "--group", group, "--all-topics", "--to-latest", "--export", "--dry-run")
    expect(f'"{topic}",0,7' in text or f"{topic},0,7" in text, text)
    # And goes with its offsets.
    text = s.groups("--delete-offsets", "--group", group, "--topic", f"{topic}:0")
    expect("Successful" in text, text)
    expect_equal(committed(s, group), {(topic, 1): 3}, "after the offsets of one were deleted")
    text = s.groups("--delete", "--group", group)
    expect("was successful" in text, text)
    text = s.groups("--describe", "--group", group, status=None)
    expect("does not exist" in text or "not found" in text, text)


def kcat_group(s):
    """Two members of librdkafka; one goes; the broker is started anew; the group goes on where it was."""
    s.topics("--create", "--topic", "kcat-group", "--partitions", "4")
    member = ["kcat", "-b", s.broker.bootstrap, "-G", "kcat-group", "-u", "-X", "auto.offset.reset=earliest"]
    member += ["-X", "auto.commit.interval.ms=200", "-X", "session.timeout.ms=6000", "kcat-group"]

    def send(word, count=40):
        lines = [f"{word} {i}" for i in range(count)]
        for p in range(4):
            s.produce("kcat-group", lines[p::4], "-p", str(p))
        return lines

    with s.running(member) as first:
        with s.running(member) as second:
            owners = lambda: sorted(r[3] for r in offsets_of(s.groups("--describe", "--group", "kcat-group")).values())
            both = lambda: sorted(first.lines() + second.lines())
            sent = send("first")
            until(30, lambda: len(both()) >= 40, lambda: f"{len(both())} messages: {first.errors()}")
            until(60, lambda: len(set(owners())) == 2, lambda: f"two members: {owners()} {first.errors()}")
            before = len(first.lines()), len(second.lines())
            sent += send("second")
            until(30, lambda: len(set(both())) >= 80, lambda: f"{len(both())} messages: {first.errors()}")
            expect(len(first.lines()) > before[0] and len(second.lines()) > before[1], "both get some")
        sent += send("third")
        until(30, lambda: len(set(both())) >= 120, lambda: f"{len(both())} messages: {first.errors()}")
        until(20, lambda: sum(committed(s, "kcat-group").values()) == 120, "all is committed")
        # While members come and go a message may be read twice.
        expect_equal(sorted(set(both())), sorted(sent), "messages")
        s.broker.stop()
        # kcat ends when it has no broker left; the members of the group are still known to the broker.
        until(30, lambda: first.process.poll() is not None, "kcat ends")
    s.broker.start()
    expect_equal(sum(committed(s, "kcat-group").values()), 120, "offsets after the restart")
    sent = send("fourth")
    with s.running(member) as third:
        until(60, lambda: len(third.lines()) >= 40, lambda: f"{len(third.lines())} messages, {third.state()}")
        expect_equal(sorted(third.lines()), sorted(sent), "messages after the restart")
        until(20, lambda: sum(committed(s, "kcat-group").values()) == 160, "all is committed again")


def kcat_lz4(s):
    """librdkafka compresses by lz4 only if FindCoordinator 0 is there."""
    s.produce("lz4", ["x" * 1000] * 50, "-p", "0", "-z", "lz4", "-X", "linger.ms=50")
    connection = wire.Connection(s.broker.address)
    try:
        part = {"Partition": 0, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20}
        body = {"ReplicaId": -1, "MaxBytes": 1 << 20, "SessionEpoch": -1, "Topics": [{"Topic": "lz4", "Partitions": [part]}]}
        records = connection.call("Fetch", 11, body)["Responses"][0]["Partitions"][0]["Records"]
    finally:
        connection.close()
    expect_equal({b["attributes"] & 7 for b in wire.batch_headers(records)}, {LZ4}, "codecs of the batches")


def kafka_consumer_perf_test(s):
    s.topics("--create", "--topic", "consumer-perf", "--partitions", "3")
    s.tool(
        "ProducerPerformance",
        *["--topic", "consumer-perf", "--num-records", "20000", "--record-size", "500", "--throughput", "-1"],
        *["--producer-props", f"bootstrap.servers={s.broker.bootstrap}"],
    )
    wanted = ["--topic", "consumer-perf", "--messages", "20000", "--group", "perf-group", "--timeout", "30000"]
    out, err = s.tool("ConsumerPerformance", "--bootstrap-server", s.broker.bootstrap, *wanted, "--hide-header")
    row = [cell.strip() for cell in out.strip().splitlines()[-1].split(",")]
    expect_equal(int(float(row[4])), 20_000, f"messages read\n{out}\n{err}")
    expect_equal(sum(committed(s, "perf-group").values()), 20_000, "offsets committed")


def offsets_topic(s):
    """Kafka's own formatters read `__consumer_offsets`, and it is a topic as any other for tools."""
    s.produce("told", ["x"] * 5, "-p", "0")
    s.groups("--reset-offsets", "--group", "told", "--topic", "told", "--to-latest", "--execute")
    execute(console(s, "told", "told-member", CLASSIC, "--from-beginning", "--max-messages", "5", "--timeout-ms", "30000"))

    def read(formatter):
        command = ["--bootstrap-server", s.broker.bootstrap, "--topic", "__consumer_offsets", "--from-beginning"]
        command += ["--formatter", f"org.apache.kafka.tools.consumer.{formatter}", "--timeout-ms", "4000"]
        out, _ = s.tool("consumer.ConsoleConsumer", *command, status=None)
        # One object behind the other, with nothing between them.
        rows, at = [], 0
        while (at := out.find("{", at)) >= 0:
            row, at = json.JSONDecoder().raw_decode(out, at)
            rows.append(row)
        return rows

    rows = read("OffsetsMessageFormatter")
    found = [(r["key"]["type"], r["value"]) for r in rows if r["key"]["data"].get("group") == "told"]
    kind, value = found[-1]
    expect_equal((kind, value["data"]["offset"], value["data"]["metadata"]), (1, 5, ""), f"an offset: {found}")
    rows = read("GroupMetadataMessageFormatter")
    found = [r["value"]["data"] for r in rows if r["key"]["data"].get("group") == "told-member" and r["value"]]
    expect(any(v["protocolType"] == "consumer" and v["members"] for v in found), f"a group with a member: {found}")
    expect(found[-1]["members"] == [] and found[-1]["generation"] >= 1, f"it left: {found[-1]}")
    out, _ = s.tool("GetOffsetShell", "--bootstrap-server", s.broker.bootstrap, "--topic", "__consumer_offsets")
    ends = [row.split(":") for row in out.split()]
    expect_equal(len(ends), 50, "partitions")
    expect(sum(int(row[2]) for row in ends) > 5, out)
    out, _ = s.topics("--describe", "--topic", "__consumer_offsets")
    expect("cleanup.policy=compact" in out and "PartitionCount: 50" in out, out)


def kafka_groups(s):
    """kafka-groups lists groups of all kinds; kafka-features tells of the new protocol."""
    s.produce("in-groups", ["x"], "-p", "0")
    s.groups("--reset-offsets", "--group", "in-groups", "--topic", "in-groups", "--to-latest", "--execute")
    out, _ = s.tool("GroupsCommand", "--bootstrap-server", s.broker.bootstrap, "--list")
    expect(re.search(r"^in-groups\s+Classic", out, re.MULTILINE), out)
    out, _ = s.tool("FeatureCommand", "--bootstrap-server", s.broker.bootstrap, "describe")
    expect(re.search(r"Feature: group.version\s+SupportedMinVersion: 0\s+SupportedMaxVersion: 1\s+FinalizedVersionLevel: 1", out), out)


EVERYWHERE = [
    console_group(CLASSIC),
    console_group(CONSUMER),
    group_members(CLASSIC),
    group_members(CONSUMER),
    kcat_group,
    offsets_topic,
]
ONE_NODE = [reset_offsets, kcat_lz4, kafka_consumer_perf_test, kafka_groups, *EVERYWHERE]

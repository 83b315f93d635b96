"""Kafka's own tools that know groups: the console consumer, the perf test, and everything of kafka-consumer-groups."""

import re
import time

from groups import COMMANDS
from world import SESSION_MS, expect, expect_equal, wait_until

GROUPS = "consumer.group.ConsumerGroupCommand"


def scenarios(_full):
    return [
        ("tool console-consumer", console_consumer),
        ("tool consumer-perf-test", consumer_perf_test),
        ("tool consumer-groups describe classic", lambda world: describe(world, "range", "Classic")),
        ("tool consumer-groups describe consumer", lambda world: describe(world, "consumer", "Consumer")),
        ("tool consumer-groups reset-offsets", reset_offsets),
        ("tool consumer-groups delete", delete),
    ]


def table(text):
    """The rows of a tool's table, each by column name. Columns are found by spaces: no cell of ours has one inside."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line[0] in ("GROUP", "TOPIC")]
    rows = []
    for at, start in enumerate(starts):
        stop = starts[at + 1] if at + 1 < len(starts) else len(lines)
        # `COORDINATOR (ID)` is one column of two words, and so are its cells.
        head = " ".join(lines[start]).replace("COORDINATOR (ID)", "COORDINATOR ID").split()
        rows += [dict(zip(head, line)) for line in lines[start + 1 : stop]]
    return rows


def numbered(count, partitions=1):
    return [(i % partitions, None, f"m{i}") for i in range(count)]


def console_consumer(world):
    topic = group = "console"
    world.create_topic(topic, 2)
    world.produce(topic, numbered(20, 2))
    consume = lambda *more: world.tool(
        "consumer.ConsoleConsumer", "--topic", topic, "--group", group, "--timeout-ms", "5000", *more
    )[0].splitlines()
    # Which partition it gets to first is its own affair.
    first = consume("--max-messages", "20", "--from-beginning")
    expect_equal(sorted(first), sorted(f"m{i}" for i in range(20)), "all messages")
    world.produce(topic, [(0, None, "later"), (1, None, "last")])
    expect_equal(sorted(consume("--max-messages", "2", "--from-beginning")), ["last", "later"], "what came since")
    world.produce(topic, [(0, None, "newest")])
    kip848 = consume("--max-messages", "1", "--consumer-property", "group.protocol=consumer")
    expect_equal(kip848, ["newest"], "with group.protocol=consumer it goes on where the classic group ended")


def consumer_perf_test(world):
    topic, count = "perf", 200_000 if world.full else 50_000
    world.create_topic(topic, 4)
    world.produce(topic, ((None, None, b"x" * 100) for _ in range(count)))
    out, _ = world.tool("ConsumerPerformance", "--topic", topic, "--messages", str(count), "--group", "perf", "--timeout", "30000")
    head, figures = (line.split(", ") for line in out.strip().splitlines()[-2:])
    consumed = int(dict(zip(head, figures))["data.consumed.in.nMsg"])
    expect(consumed >= count, f"{consumed} of {count} messages: {out}")
    rows = table(world.tool(GROUPS, "--describe", "--group", "perf")[0])
    expect_equal(sum(int(row["LAG"]) for row in rows), 0, "lag afterwards")
    return f"{dict(zip(head, figures))['nMsg.sec']} messages/s"


def describe(world, protocol, kind):
    """list and describe in every form, of a group with two members and of the same group when they are gone."""
    group = topic = f"described-{protocol}"
    world.create_topic(topic, 4)
    world.produce(topic, numbered(40, 4))
    members = []
    for name in ("m1", "m2"):
        arguments = [world.bootstrap, group, topic, name, protocol, str(SESSION_MS)]
        members.append(world.spawn([*COMMANDS["confluent"], *arguments], "members-described"))
    ask = lambda *more, status=0: world.tool(GROUPS, "--describe", "--group", group, *more, status=status)[0]

    def settled():
        rows = table(ask("--offsets"))
        owners = {row["CLIENT-ID"] for row in rows}
        return owners == {"m1", "m2"} and all(row["LAG"] == "0" for row in rows) and rows

    rows = wait_until(settled, lambda: "two owners without lag:\n" + ask("--offsets"), 60)
    expect_equal(sorted(int(row["PARTITION"]) for row in rows), [0, 1, 2, 3], "partitions")
    for row in rows:
        expect_equal(
            (row["GROUP"], row["TOPIC"], row["CURRENT-OFFSET"], row["LOG-END-OFFSET"], row["HOST"]),
            (group, topic, "10", "10", "/127.0.0.1"),
            "row",
        )
        expect(len(row["CONSUMER-ID"]) > 10, f"consumer id: {row}")
    # The default is --offsets; --verbose adds leader epochs.
    expect_equal([row["LAG"] for row in table(ask())], ["0"] * 4, "the default form")
    verbose = table(ask("--offsets", "--verbose"))
    expect(all(int(row["LEADER-EPOCH"]) >= 0 for row in verbose), f"leader epochs: {verbose}")

    rows = table(ask("--members"))
    expect_equal(sorted((row["CLIENT-ID"], row["#PARTITIONS"]) for row in rows), [("m1", "2"), ("m2", "2")], "members")
    text = ask("--members", "--verbose")
    assignments = re.findall(rf"{re.escape(topic)}:([0-9,]+)", text)
    partitions = sorted(int(p) for assignment in set(assignments) for p in assignment.split(","))
    expect_equal(partitions, [0, 1, 2, 3], f"assignments in {text}")
    if kind == "Consumer":
        epochs = {row["CURRENT-EPOCH"] for row in table(text)} | {row["TARGET-EPOCH"] for row in table(text)}
        expect(len(epochs) == 1 and int(epochs.pop()) > 0, f"epochs in {text}")

    state = table(ask("--state"))[0]
    expect_equal((state["STATE"], state["#MEMBERS"]), ("Stable", "2"), f"state {state}")
    strategy = {"range": "range", "consumer": "uniform"}[protocol]
    expect_equal(state["ASSIGNMENT-STRATEGY"], strategy, f"state {state}")
    ask("--state", "--verbose")

    listing = lambda *more: world.tool(GROUPS, "--list", *more)[0]
    expect(group in listing().split(), "listed")
    rows = {row["GROUP"]: row for row in table(listing("--state"))}
    expect_equal(rows[group]["STATE"], "Stable", "listed state")
    expect(group not in {row["GROUP"] for row in table(listing("--state", "Empty"))}, "listed by another state")
    rows = {row["GROUP"]: row for row in table(listing("--type"))}
    expect_equal(rows[group]["TYPE"], kind, "listed type")
    expect(group in listing("--type", kind.lower()).split(), "listed by type")
    other = {"Classic": "consumer", "Consumer": "classic"}[kind]
    expect(group not in listing("--type", other).split(), "listed by the other type")
    everything = table(world.tool(GROUPS, "--describe", "--all-groups", "--state")[0])
    expect(group in {row["GROUP"] for row in everything}, f"--all-groups: {everything}")

    for refused in (["--delete", "--group", group], ["--reset-offsets", "--to-earliest", "--topic", topic, "--group", group, "--execute"]):
        out, err = world.tool(GROUPS, *refused, status=None)
        expect(re.search("NonEmpty|not empty|inactive", out + err), f"a group with members, {refused}: {out}{err}")
    out, err = world.tool(GROUPS, "--delete-offsets", "--topic", topic, "--group", group, status=None)
    expect("GroupSubscribedToTopic" in out + err or "subscribed" in out + err, f"--delete-offsets: {out}{err}")

    for member in members:
        expect_equal(world.end(member), 0, "exit status of a member")
    rows = table(ask("--offsets"))
    expect_equal([(row["CURRENT-OFFSET"], row["CONSUMER-ID"]) for row in rows], [("10", "-")] * 4, "without members")
    expect_equal(table(ask("--state"))[0]["#MEMBERS"], "0", "members when they are gone")
    out, err = world.tool(GROUPS, "--describe", "--group", "no-such-group", status=None)
    expect("GroupIdNotFound" in out + err, f"a group that is not there: {out}{err}")


def reset_offsets(world):
    """Every form, each dry and then executed; what one leaves is what the next starts from."""
    topic = group = "reset"
    world.create_topic(topic, 2)
    world.produce(topic, numbered(10, 2))
    time.sleep(1.1)
    middle = time.gmtime(time.time())
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.000", middle)
    time.sleep(1.1)
    world.produce(topic, numbered(10, 2))

    def reset(what, wanted, *scope):
        before = world.committed(group, topic, 2)
        arguments = ["--reset-offsets", "--group", group, *(scope or ("--topic", topic)), *what]
        dry = table(world.tool(GROUPS, *arguments, "--dry-run")[0])
        told = {int(row["PARTITION"]): row["NEW-OFFSET"] for row in dry}
        expect_equal(told, wanted, f"dry run of {what}")
        expect_equal(world.committed(group, topic, 2), before, f"after the dry run of {what}")
        world.tool(GROUPS, *arguments, "--execute")
        expect_equal(world.committed(group, topic, 2), {**before, **wanted}, f"after {what}")

    reset(["--to-latest"], {0: "10", 1: "10"})
    reset(["--to-earliest"], {0: "0", 1: "0"})
    reset(["--to-offset", "7"], {0: "7", 1: "7"})
    reset(["--shift-by", "-3"], {0: "4", 1: "4"})
    # Beyond the ends: to the nearest offset there is.
    reset(["--shift-by", "100"], {0: "10", 1: "10"}, "--all-topics")
    reset(["--to-offset", "3"], {1: "3"}, "--topic", f"{topic}:1")
    reset(["--to-datetime", moment], {0: "5", 1: "5"})
    reset(["--by-duration", "P1D"], {0: "0", 1: "0"})
    reset(["--to-current"], {0: "0", 1: "0"})
    plan = f"{world.directory}/plan.csv"
    exported, _ = world.tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-offset", "6", "--export", "--dry-run")
    with open(plan, "w") as out:
        out.write("\n".join(line for line in exported.splitlines() if line.count(",") >= 2) + "\n")
    reset(["--from-file", plan], {0: "6", 1: "6"}, "--all-topics")
    # And a consumer goes on from there.
    out, _ = world.tool("consumer.ConsoleConsumer", "--topic", topic, "--group", group, "--max-messages", "8", "--timeout-ms", "10000")
    expect_equal(len(out.splitlines()), 8, "messages after the reset to 6 of 10 in both")


def delete(world):
    topic = group = "deleted"
    world.create_topic(topic, 2)
    world.produce(topic, numbered(4, 2))
    world.tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-latest", "--execute")
    expect_equal(world.committed(group, topic, 2), {0: "2", 1: "2"}, "committed")
    out, _ = world.tool(GROUPS, "--delete-offsets", "--group", group, "--topic", f"{topic}:1")
    expect("Successful" in out, out)
    expect_equal(world.committed(group, topic, 2), {0: "2"}, "after --delete-offsets of one partition")
    out, _ = world.tool(GROUPS, "--delete", "--group", group)
    expect("successful" in out, out)
    expect(group not in world.tool(GROUPS, "--list")[0].split(), "gone from the list")
    out, err = world.tool(GROUPS, "--delete", "--group", group, status=None)
    expect("GroupIdNotFound" in out + err, f"deleted again: {out}{err}")

"""`corelane group` against the broker: list, describe, reset, delete, for groups of both protocols."""

import json
import re
import signal
import subprocess
import time

import brokers
from groups import COMMANDS
from world import SESSION_MS, expect, expect_equal, run_to_end, wait_until


def scenarios(_full):
    return [
        ("corelane group classic", lambda world: play(world, "cooperative", "classic", "cooperative-sticky")),
        ("corelane group consumer", lambda world: play(world, "consumer", "consumer", "uniform")),
    ]


def play(world, protocol, kind, assignor):
    group = topic = f"cli-{kind}"
    world.create_topic(topic, 4)
    world.produce(topic, [(i % 4, None, f"m{i}") for i in range(40)])
    middle = int(time.time() * 1000) + 1
    time.sleep(0.01)
    world.produce(topic, [(i % 4, None, f"n{i}") for i in range(8)])

    def corelane(*arguments, status=0):
        return run_to_end([brokers.corelane_binary(), "group", *arguments, "-b", world.bootstrap], status=status)

    def objects(*arguments):
        return json.loads(corelane(*arguments, "-f", "json")[0])

    def start(name):
        arguments = [world.bootstrap, group, topic, name, protocol, str(SESSION_MS)]
        return world.spawn([*COMMANDS["confluent"], *arguments], "members-cli")

    members = [start("m1"), start("m2")]

    def settled():
        told = objects("describe", group, "--interval", "0") if group in listed() else []
        told = told[0] if told else None
        shared = told and len(told["members"]) == 2 and all(len(m["partitions"]) == 2 for m in told["members"])
        return shared and [row["lag"] for row in told["partitions"]] == [0] * 4 and told

    listed = lambda: {row["group"]: row for row in objects("list")}
    told = wait_until(settled, lambda: f"two members without lag: {objects('describe', group)}", 60)
    expect_equal((told["protocol"], told["state"], told["assignor"]), (kind, "Stable", assignor), "description")
    expect_equal(told["epoch"] is not None, kind == "consumer", "only the consumer protocol tells an epoch")
    expect_equal(sorted(m["client"] for m in told["members"]), ["m1", "m2"], "clients")
    expect_equal({m["host"] for m in told["members"]}, {"127.0.0.1"}, "hosts")
    for row in told["partitions"]:
        expect_equal((row["topic"], row["committed"], row["log_end"], row["lag"]), (topic, 12, 12, 0), "row")
        owner = next(m for m in told["members"] if m["member"] == row["owner"])
        expect({"topic": topic, "partition": row["partition"]} in owner["partitions"], f"owner of {row}")
        expect(row["leader_epoch"] is not None and row["read_per_s"] is None, f"epoch, no rate: {row}")
    expect_equal(listed()[group], {"group": group, "protocol": kind, "state": "Stable", "type": "consumer"}, "listed")
    text, _ = corelane("describe", group, "--interval", "0.3")
    expect(re.match(rf"group {group}  {kind}  Stable  members 2  assignor {assignor}", text), text)
    expect_equal(len(re.findall(rf"^  {topic} +[0-3] +12 +12 +0 +0\.0 +0\.0 +m[12]@127\.0\.0\.1 ", text, re.M)), 4, text)

    # What members commit while they are watched is a rate. They sleep far shorter than their session.
    for member in members:
        member.send_signal(signal.SIGSTOP)
    world.produce(topic, [(0, None, f"o{i}") for i in range(30)])
    told = objects("describe", group, "--interval", "0")[0]
    expect_equal(told["lag"], 30, "lag of a member that sleeps")
    watch = subprocess.Popen(
        [brokers.corelane_binary(), "group", "describe", group, "--interval", "2", "-f", "json", "-b", world.bootstrap],
        stdout=subprocess.PIPE,
    )
    time.sleep(0.5)
    for member in members:
        member.send_signal(signal.SIGCONT)
    told = json.loads(watch.communicate(timeout=30)[0])[0]
    row = next(row for row in told["partitions"] if row["partition"] == 0)
    expect(12 <= row["read_per_s"] <= 16 and row["lag"] == 0, f"30 records in about 2 s: {row}")

    _, complaint = corelane("reset", group, "--topic", topic, "--to-earliest", "--execute", status=1)
    expect("has members" in complaint and complaint.count("\n") == 1, complaint)
    _, complaint = corelane("delete", group, status=1)
    expect("NON_EMPTY_GROUP" in complaint, complaint)
    for member in members:
        expect_equal(world.end(member), 0, "exit status of a member")
    wait_until(lambda: listed()[group]["state"] == "Empty", "the group is empty", 15)

    def reset(wanted, *arguments):
        before = world.committed(group, topic, 4)
        dry = objects("reset", group, *arguments)
        expect_equal({str(r["partition"]): str(r["after"]) for r in dry}, wanted, f"dry run of {arguments}")
        expect_equal({str(r["partition"]): str(r["before"]) for r in dry}, {p: before[int(p)] for p in wanted}, "before")
        expect_equal(world.committed(group, topic, 4), before, f"after the dry run of {arguments}")
        objects("reset", group, *arguments, "--execute")
        wanted = {**before, **{int(p): offset for p, offset in wanted.items()}}
        expect_equal(world.committed(group, topic, 4), wanted, f"after {arguments}")

    every = lambda *offsets: {str(p): str(offset) for p, offset in enumerate(offsets)}
    reset(every(0, 0, 0, 0), "--topic", topic, "--to-earliest")
    reset(every(42, 12, 12, 12), "--all-topics", "--to-latest")
    reset(every(20, 12, 12, 12), "--topic", topic, "--to-offset", "20")
    reset(every(17, 9, 9, 9), "--topic", topic, "--shift-by", "-3")
    reset({"1": "0", "3": "0"}, "--topic", f"{topic}:1,3", "--shift-by", "-100")
    reset(every(10, 10, 10, 10), "--topic", topic, "--to-datetime", str(middle))
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(middle / 1000)) + f".{middle % 1000:03}"
    reset(every(10, 10, 10, 10), "--all-topics", "--to-datetime", moment)
    reset(every(42, 12, 12, 12), "--all-topics", "--to-datetime", "2100-01-01")
    text, _ = corelane("reset", group, "--topic", topic, "--to-earliest")
    expect("dry run" in text, text)
    text, _ = corelane("describe", group, "--interval", "0")
    expect(f"group {group}  " in text and "members 0" in text and "lag 0" in text, text)
    # A group that nobody ever joined is made by its first commit.
    fresh = f"{group}-fresh"
    corelane("reset", fresh, "--topic", topic, "--to-latest", "--execute")
    expect_equal(world.committed(fresh, topic, 4), {0: "42", 1: "12", 2: "12", 3: "12"}, "a fresh group")

    text, _ = corelane("delete", group, fresh)
    expect_equal(text, f"group {group} deleted\ngroup {fresh} deleted\n", "delete")
    expect(not {group, fresh} & set(listed()), "gone from the list")
    for again in (["delete", group], ["describe", group], ["reset", group, "--all-topics", "--to-latest"]):
        _, complaint = corelane(*again, status=1)
        expect(complaint.startswith("corelane: "), f"{again}: {complaint}")

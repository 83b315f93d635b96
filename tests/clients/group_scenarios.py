"""What `compare` asks about groups: coordinators, classic groups, consumer groups of KIP-848, and their offsets.

As in `scenarios`. Members have connections of their own (`Peer.clients`), since joins wait for each other. Member ids
that a broker makes up are given names (`Peer.know`), and compared by them.
"""

import base64
import struct
import time
import uuid

from scenarios import STRANGE_ID, make_topic, versions
from wire import requests

RANGE = [("range", b"r")]


def supported(api, high=None):
    """The versions of an API up to `high`, the last one here."""
    return [v for v in versions(api) if high is None or v <= high]


def join(group, member="", protocols=RANGE, session=10_000, rebalance=10_000, kind="consumer", instance=None):
    return {
        "GroupId": group,
        "SessionTimeoutMs": session,
        "RebalanceTimeoutMs": rebalance,
        "MemberId": member,
        "GroupInstanceId": instance,
        "ProtocolType": kind,
        "Protocols": [{"Name": n, "Metadata": m} for n, m in protocols],
    }


def sync(group, member, generation, assignments=(), instance=None, kind="consumer", name="range"):
    return {
        "GroupId": group,
        "GenerationId": generation,
        "MemberId": member,
        "GroupInstanceId": instance,
        "ProtocolType": kind,
        "ProtocolName": name,
        "Assignments": [{"MemberId": m, "Assignment": a} for m, a in assignments],
    }


def beat(group, member, generation, instance=None):
    return {"GroupId": group, "GenerationId": generation, "MemberId": member, "GroupInstanceId": instance}


def leave(group, *members):
    """`members` are (member id, instance id)."""
    return {
        "GroupId": group,
        "MemberId": members[0][0] if members else "",
        "Members": [{"MemberId": m, "GroupInstanceId": i} for m, i in members],
    }


def commit(group, *rows, member="", generation=-1, instance=None, retention=-1):
    """`rows` are (topic, partition, offset) and perhaps (leader epoch, metadata)."""
    topics = {}
    for topic, partition, offset, *more in rows:
        epoch, metadata = [*more, -1, ""][:2] if len(more) < 2 else more
        row = {"PartitionIndex": partition, "CommittedOffset": offset, "CommittedLeaderEpoch": epoch}
        topics.setdefault(topic, []).append({**row, "CommittedMetadata": metadata})
    return {
        "GroupId": group,
        "GenerationIdOrMemberEpoch": generation,
        "MemberId": member,
        "GroupInstanceId": instance,
        "RetentionTimeMs": retention,
        "Topics": [{"Name": n, "Partitions": p} for n, p in topics.items()],
    }


def fetch(version, *groups, stable=False, member=None, epoch=-1):
    """`groups` are (group, [(topic, partitions)] or None)."""
    rows = lambda topics: topics and [{"Name": n, "PartitionIndexes": p} for n, p in topics]
    if version < 8:
        ((group, topics),) = groups
        return {"GroupId": group, "Topics": rows(topics) if topics != [] else [], "RequireStable": stable}
    listed = [{"GroupId": g, "Topics": rows(t), "MemberId": member, "MemberEpoch": epoch} for g, t in groups]
    return {"Groups": listed, "RequireStable": stable}


def subscription(*topics):
    """A ConsumerProtocolSubscription of version 0."""
    names = b"".join(struct.pack(">h", len(t)) + t.encode() for t in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


def assignment(**topics):
    """A ConsumerProtocolAssignment of version 0."""
    out = struct.pack(">hi", 0, len(topics))
    for name, partitions in topics.items():
        out += struct.pack(">h", len(name)) + name.encode() + struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
    return out + struct.pack(">i", -1)


def epoch_beat(group, member, epoch, topics=None, owned=None, rebalance=-1, instance=None, **more):
    """A ConsumerGroupHeartbeat; `owned` is {topic id: partitions}."""
    listed = owned if owned is None else [{"TopicId": i, "Partitions": p} for i, p in owned.items()]
    return {
        "GroupId": group,
        "MemberId": member,
        "MemberEpoch": epoch,
        "InstanceId": instance,
        "RebalanceTimeoutMs": rebalance,
        "SubscribedTopicNames": topics,
        "TopicPartitions": listed,
        **more,
    }


def epoch_join(group, member, *topics, **more):
    more.setdefault("rebalance", 10_000)
    return epoch_beat(group, member, 0, list(topics), {}, **more)


def new_member(t, name):
    return t.know(name, base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "a"))


def await_group(t, group):
    """Waits until the group has a coordinator that has loaded."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = t.ask("FindCoordinator", 3, {"Key": group, "KeyType": 0})["ErrorCode"]
        if found == 0 and t.ask("OffsetFetch", 7, fetch(7, (group, None)))["ErrorCode"] == 0:
            return
        time.sleep(0.05)
    raise AssertionError(f"{group} has no coordinator")


def entered(t, client, group, v=9, **more):
    """JoinGroup until it waits or is answered with a generation: sent, not taken. The member has the client's name."""
    more.setdefault("member", "")
    if v >= 4 and not more["member"] and more.get("instance") is None:
        asked = client.ask("JoinGroup", v, join(group, **more))
        assert asked["ErrorCode"] == 79, (t.name, group, asked)
        more["member"] = t.know(client.name, asked["MemberId"])
    client.send("JoinGroup", v, join(group, **more))
    return more["member"]


def joined(t, client, group, label=None, **more):
    """The answer to a JoinGroup that brings the member in."""
    entered(t, client, group, **more)
    answer = client.take()
    assert answer["ErrorCode"] == 0, (t.name, group, answer)
    t.know(client.name, answer["MemberId"])
    if label:
        t.note(label, answer)
    return answer


def alone(t, client, group, protocols=RANGE, **more):
    """Makes a stable group of one member: (member id, generation)."""
    answer = joined(t, client, group, protocols=protocols, **more)
    member, generation = answer["MemberId"], answer["GenerationId"]
    instance, kind = more.get("instance"), more.get("kind", "consumer")
    body = sync(group, member, generation, [(member, b"all")], instance, kind, protocols[0][0])
    done = client.ask("SyncGroup", 5, body)
    assert done["ErrorCode"] == 0, (t.name, group, done)
    return member, generation


def described(t, label, *groups, v=6):
    t.call(label, "DescribeGroups", v, {"Groups": list(groups)})


def consumers_described(t, label, *groups):
    t.call(label, "ConsumerGroupDescribe", 1, {"GroupIds": list(groups)})


# Coordinators.


def group_no_coordinator(t):
    """Has to be the first one about groups: there is no `__consumer_offsets` yet."""
    topic_id = make_topic(t, "uncoordinated")
    g = "nobody"
    for v in supported("OffsetFetch", 9):
        t.call(f"fetch v{v}", "OffsetFetch", v, fetch(v, (g, [("uncoordinated", [0, 1])])))
    t.call("fetch all", "OffsetFetch", 9, fetch(9, (g, None), ("nobody else", None)))
    for v in (0, 4, 9):
        t.call(f"join v{v}", "JoinGroup", v, join(g))
        t.call(f"join v{v} no id", "JoinGroup", v, join(""))
    for v in (0, 5):
        t.call(f"sync v{v}", "SyncGroup", v, sync(g, "m", 1))
        t.call(f"leave v{v}", "LeaveGroup", v, leave(g, ("m", None)))
    t.call("heartbeat", "Heartbeat", 4, beat(g, "m", 1))
    for v in (2, 9):
        t.call(f"commit v{v}", "OffsetCommit", v, commit(g, ("uncoordinated", 0, 1), ("absent", 0, 1)))
    t.call("offset delete", "OffsetDelete", 0, {"GroupId": g, "Topics": [{"Name": "uncoordinated", "Partitions": [{"PartitionIndex": 0}]}]})
    for v in (0, 5, 6):
        described(t, f"describe v{v}", g, v=v)
    for v in supported("DeleteGroups"):
        t.call(f"delete v{v}", "DeleteGroups", v, {"GroupsNames": [g]})
    for v in supported("ListGroups"):
        t.call(f"list v{v}", "ListGroups", v, {})
    for v in (0, 1):
        t.call(f"epoch v{v}", "ConsumerGroupHeartbeat", v, epoch_join(g, "m", "uncoordinated"))
        t.call(f"consumer describe v{v}", "ConsumerGroupDescribe", v, {"GroupIds": [g]})
    t.call("find", "FindCoordinator", 3, {"Key": g})


def find_coordinator(t):
    await_group(t, "g")
    for v in supported("FindCoordinator"):
        for label, kind, key in (("group", 0, "g"), ("no name", 0, ""), ("type 3", 3, "g"), ("type -1", -1, "g")):
            t.call(f"v{v} {label}", "FindCoordinator", v, {"Key": key, "KeyType": kind, "CoordinatorKeys": [key, "other"]})
        if v >= 4:
            t.call(f"v{v} none", "FindCoordinator", v, {"KeyType": 0, "CoordinatorKeys": []})
            t.call(f"v{v} no keys of type 9", "FindCoordinator", v, {"KeyType": 9, "CoordinatorKeys": []})
            t.call(f"v{v} twice", "FindCoordinator", v, {"KeyType": 0, "CoordinatorKeys": ["a", "a"]})
        share = {"Key": "s", "KeyType": 2, "CoordinatorKeys": ["s", f"s:{STRANGE_ID}:0"]}
        if v < 6:
            t.call(f"v{v} share", "FindCoordinator", v, share)
    t.call("v6 share", "FindCoordinator", 6, {"KeyType": 2, "CoordinatorKeys": ["s"]})
    deadline = time.monotonic() + 20
    while t.ask("FindCoordinator", 3, {"Key": "t", "KeyType": 1})["ErrorCode"] and time.monotonic() < deadline:
        time.sleep(0.1)
    for v in supported("FindCoordinator"):
        if v:
            t.call(f"v{v} transaction", "FindCoordinator", v, {"Key": "t", "KeyType": 1, "CoordinatorKeys": ["t", ""]})


# Classic groups.


def group_join_errors(t):
    await_group(t, "x")
    for v in supported("JoinGroup"):
        ask = lambda label, body: t.call(f"v{v} {label}", "JoinGroup", v, body)
        g = f"refused-{v}"
        ask("no group", join(""))
        ask("short session", join(g, session=5_999))
        ask("long session", join(g, session=1_800_001))
        ask("negative session", join(g, session=-1))
        ask("unknown member", join(g, "who"))
        ask("no protocols", join(g, protocols=()))
        ask("no type", join(g, kind=""))
        ask("neither", join(g, protocols=(), kind=""))
        # Kafka describes a group once its first record is committed, which no answer waits for.
        time.sleep(0.1)
        described(t, f"v{v} left behind", g)
        if v >= 5:
            for n, instance in enumerate(("", "a/b", "..", "i" * 250)):
                ask(f"instance {instance[:5]!r}", join(f"{g}-{n}", instance=instance))
            ask("unknown member with instance", join(g, "who", instance="i"))
        if v >= 4:
            ask("asked for an id", join(g))
            ask("asked for an id, no type", join(g + "-b", kind=""))
            ask("asked for an id, no protocols", join(g + "-c", protocols=()))
            time.sleep(0.1)
            described(t, f"v{v} with ids given", g, g + "-b", g + "-c")
    with t.clients("one", "two") as (one, two):
        member, generation = alone(t, one, "taken")
        for v in supported("JoinGroup"):
            ask = lambda label, body: two.call(f"v{v} {label}", "JoinGroup", v, body)
            ask("other type", join("taken", kind="connect"))
            ask("other protocols", join("taken", protocols=[("odd", b"")]))
            ask("no protocols, taken", join("taken", protocols=()))
            ask("no type, taken", join("taken", kind=""))
            ask("unknown member, taken", join("taken", "who"))
            ask("member as other type", join("taken", member, kind="connect"))
            ask("member with other protocols", join("taken", member, protocols=[("odd", b"")]))
            if v >= 5:
                ask("member with an instance", join("taken", member, instance="i"))
        described(t, "still stable", "taken")
        one.call("heartbeat", "Heartbeat", 4, beat("taken", member, generation))


def group_join_big(t):
    # Not as consumers: Kafka reads their metadata, and dies of a wrong length in it.
    await_group(t, "big")
    with t.clients("one", "two") as (one, two):
        answer = joined(t, one, "big", kind="connect", protocols=[("range", b"x" * 500_000)])
        t.note("500 kB", {**answer, "Members": [len(m["Metadata"]) for m in answer["Members"]]})
        member = answer["MemberId"]
        one.call("its sync", "SyncGroup", 5, sync("big", member, 1, [(member, b"a")], kind="connect"))
        asked = two.ask("JoinGroup", 9, join("bigger", kind="connect"))
        member = t.know("two", asked["MemberId"])
        answer = two.ask("JoinGroup", 9, join("bigger", member, kind="connect", protocols=[("range", b"x" * 2_000_000)]))
        t.note("2 MB", {**answer, "Members": [len(m["Metadata"]) for m in answer["Members"]]})
        two.call("2 MB sync", "SyncGroup", 5, sync("bigger", member, 1, [(member, b"a")], kind="connect"))
        state = t.ask("DescribeGroups", 5, {"Groups": ["bigger"]})["Groups"][0]
        t.note("2 MB, state", [state["ErrorCode"], state["GroupState"]])


def group_life(t):
    """One member from the first join to the last word, by every version."""
    make_topic(t, "lived")
    await_group(t, "life")
    for v in supported("JoinGroup"):
        g = f"life-{v}"
        at = lambda api, most=None: min(v, requests()[api].versions.high if most is None else most)
        with t.clients(f"member {v}") as (one,):
            ask = lambda label, api, version, body: one.call(f"v{v} {label}", api, version, body)
            if v >= 4:
                member = ask("asks for an id", "JoinGroup", v, join(g))["MemberId"]
                t.know(one.name, member)
                ask("joins", "JoinGroup", v, join(g, member))
            else:
                one.send("JoinGroup", v, join(g))
                answer = one.take()
                member = t.know(one.name, answer["MemberId"])
                t.note(f"v{v} joins", answer)
            ask("heartbeat early", "Heartbeat", at("Heartbeat"), beat(g, member, 1))
            ask("commit early", "OffsetCommit", max(2, v), commit(g, ("lived", 0, 1), member=member, generation=1))
            ask("sync", "SyncGroup", at("SyncGroup"), sync(g, member, 1, [(member, b"mine"), ("stranger", b"x")]))
            ask("sync again", "SyncGroup", at("SyncGroup"), sync(g, member, 1, [(member, b"other")]))
            ask("heartbeat", "Heartbeat", at("Heartbeat"), beat(g, member, 1))
            ask("commit", "OffsetCommit", max(2, v), commit(g, ("lived", 0, 7, 0, "note"), member=member, generation=1))
            ask("fetch", "OffsetFetch", max(1, v), fetch(max(1, v), (g, [("lived", [0])])))
            described(t, f"v{v} described, stable", g, v=at("DescribeGroups"))
            ask("delete while stable", "DeleteGroups", at("DeleteGroups"), {"GroupsNames": [g]})
            ask("heartbeat of another generation", "Heartbeat", at("Heartbeat"), beat(g, member, 2))
            ask("heartbeat of another member", "Heartbeat", at("Heartbeat"), beat(g, "who", 1))
            ask("joins again", "JoinGroup", v, join(g, member))
            ask("sync of the second", "SyncGroup", at("SyncGroup"), sync(g, member, 2, [(member, b"second")]))
            ask("joins as at first", "JoinGroup", v, join(g, member, protocols=[("range", b"r"), ("new", b"n")]))
            ask("leaves", "LeaveGroup", at("LeaveGroup"), leave(g, (member, None)))
            ask("leaves again", "LeaveGroup", at("LeaveGroup"), leave(g, (member, None)))
            ask("heartbeat after", "Heartbeat", at("Heartbeat"), beat(g, member, 3))
            ask("commit after", "OffsetCommit", max(2, v), commit(g, ("lived", 0, 8), member=member, generation=3))
            described(t, f"v{v} described, empty", g, v=at("DescribeGroups"))
            ask("deleted", "DeleteGroups", at("DeleteGroups"), {"GroupsNames": [g]})
            ask("deleted again", "DeleteGroups", at("DeleteGroups"), {"GroupsNames": [g, g]})
            described(t, f"v{v} described, gone", g, v=at("DescribeGroups"))
            ask("fetch after", "OffsetFetch", max(1, v), fetch(max(1, v), (g, [("lived", [0])])))


def group_two_members(t):
    await_group(t, "pair")
    g = "pair"
    both = [("range", b"r"), ("sticky", b"s")]
    with t.clients("one", "two", "three") as (one, two, three):
        first, generation = alone(t, one, g, protocols=both)
        second = entered(t, two, g, protocols=[("range", b"r2"), ("sticky", b"2")])
        two.waits("the second waits")
        one.call("heartbeat while preparing", "Heartbeat", 4, beat(g, first, generation))
        one.call("commit while preparing", "OffsetCommit", 9, commit(g, ("t", 0, 1), member=first, generation=generation))
        one.call("sync while preparing", "SyncGroup", 5, sync(g, first, generation))
        described(t, "described while preparing", g)
        one.send("JoinGroup", 9, join(g, first, protocols=both))
        one.take("the leader's answer")
        two.take("the follower's answer")
        described(t, "described while completing", g)
        two.send("SyncGroup", 5, sync(g, second, 2, name="range"))
        two.waits("the follower's sync waits")
        two_again = t.clients("two again")
        with two_again as (again,):
            again.call("follower joins again while completing", "JoinGroup", 9, join(g, second, protocols=[("range", b"r2"), ("sticky", b"2")]))
        one.call("heartbeat while completing", "Heartbeat", 4, beat(g, first, 2))
        one.call("sync as another type", "SyncGroup", 5, sync(g, first, 2, kind="connect"))
        one.call("sync by another protocol", "SyncGroup", 5, sync(g, first, 2, name="odd"))
        one.call("sync of another generation", "SyncGroup", 5, sync(g, first, 1))
        one.call("sync of nobody", "SyncGroup", 5, sync(g, "who", 2))
        one.call("the leader's sync", "SyncGroup", 5, sync(g, first, 2, [(first, b"a"), (second, b"b")]))
        two.take("the follower's sync")
        described(t, "described when stable", g)
        two.call("follower joins as before", "JoinGroup", 9, join(g, second, protocols=[("range", b"r2"), ("sticky", b"2")]))
        two.call("and syncs", "SyncGroup", 5, sync(g, second, 2))
        # The follower wants something else: a rebalance.
        two.send("JoinGroup", 9, join(g, second, protocols=[("sticky", b"3")]))
        two.waits("a follower with news waits")
        one.send("JoinGroup", 9, join(g, first, protocols=both))
        one.take("third generation, leader")
        two.take("third generation, follower")
        for client, member in ((two, second), (one, first)):
            client.send("SyncGroup", 5, sync(g, member, 3, [(first, b"a3")] if client is one else [], name="sticky"))
        one.take("third sync, leader")
        two.take("third sync, follower: no assignment")
        # A third comes, the leader goes.
        third = entered(t, three, g, protocols=both)
        three.waits("the third waits")
        one.call("the leader leaves", "LeaveGroup", 5, leave(g, (first, None)))
        two.send("JoinGroup", 9, join(g, second, protocols=[("sticky", b"3")]))
        # Which of them leads now is free.
        answers = [two.take(), three.take()]
        rows = [[a["ErrorCode"], a["GenerationId"], a["ProtocolName"]] for a in answers]
        t.note("fourth generation", [*rows, len({a["Leader"] for a in answers}), sorted(len(a["Members"]) for a in answers)])
        two.call("both leave", "LeaveGroup", 5, leave(g, (second, None), (third, None), ("who", None), ("", "nobody")))
        described(t, "described when empty", g)


def group_rebalance_timeout(t):
    """Who does not join again in time is out; who does not sync, too."""
    await_group(t, "late")
    with t.clients("one", "two") as (one, two):
        first, generation = alone(t, one, "late", session=6_000, rebalance=1_000)
        entered(t, two, "late", session=6_000, rebalance=1_000)
        two.take("without the first")
        one.call("the first is unknown", "Heartbeat", 4, beat("late", first, generation))
        described(t, "one left", "late")
        time.sleep(1.5)
        described(t, "no sync came", "late")
    with t.clients("three") as (three,):
        member, generation = alone(t, three, "silent", session=6_000)
        time.sleep(7)
        described(t, "the session ended", "silent")
        three.call("unknown after its session", "Heartbeat", 4, beat("silent", member, generation))


def group_requests_by_strangers(t):
    """Every request about a classic group that is absent, empty, or has other members."""
    await_group(t, "strange")
    make_topic(t, "strange")
    t.ask("OffsetCommit", 9, commit("strange-empty", ("strange", 0, 5)))
    with t.clients("one") as (one,):
        member, generation = alone(t, one, "strange-stable")
        for g in ("", "strange-absent", "strange-empty", "strange-stable"):
            for v in supported("SyncGroup"):
                t.call(f"{g!r} sync v{v}", "SyncGroup", v, sync(g, "who", 1))
            for v in supported("Heartbeat"):
                t.call(f"{g!r} heartbeat v{v}", "Heartbeat", v, beat(g, "who", 1))
            for v in supported("LeaveGroup"):
                t.call(f"{g!r} leave v{v}", "LeaveGroup", v, leave(g, ("who", None)))
            t.call(f"{g!r} leave of nobody", "LeaveGroup", 5, leave(g))
            t.call(f"{g!r} leave of instances", "LeaveGroup", 5, leave(g, ("", "i"), ("who", "i"), ("", None)))
            t.call(f"{g!r} heartbeat of an instance", "Heartbeat", 4, beat(g, "who", 1, "i"))
            t.call(f"{g!r} sync of an instance", "SyncGroup", 5, sync(g, "who", 1, instance="i"))
            t.call(f"{g!r} heartbeat without id", "Heartbeat", 4, beat(g, "", -1))
            t.call(f"{g!r} sync without kind", "SyncGroup", 5, sync(g, "who", 1, kind=None, name=None))
        t.call("sync without kind", "SyncGroup", 5, sync("strange-stable", member, 1, kind=None, name=None))
        t.call("sync with kind only", "SyncGroup", 5, sync("strange-stable", member, 1, name=None))
        t.call("leave twice in one", "LeaveGroup", 5, leave("strange-stable", (member, None), (member, None)))


def group_static(t):
    await_group(t, "static")
    g = "static"
    with t.clients("one", "two", "one again", "stray") as (one, two, again, stray):
        answer = joined(t, one, g, "first joins", instance="a")
        first = answer["MemberId"]
        one.call("first syncs", "SyncGroup", 5, sync(g, first, 1, [(first, b"x")], "a"))
        entered(t, two, g, instance="b")
        two.waits("second waits")
        one.send("JoinGroup", 9, join(g, first, instance="a"))
        one.take("leader in the second generation")
        second = t.know("two", (answer := two.take())["MemberId"])
        t.note("follower in the second generation", answer)
        two.send("SyncGroup", 5, sync(g, second, 2, instance="b"))
        one.call("leader's sync", "SyncGroup", 5, sync(g, first, 2, [(first, b"x"), (second, b"y")], "a"))
        two.take("follower's sync")
        described(t, "stable", g)
        for label, member, instance in (("no instance", second, None), ("other instance", second, "a"), ("unknown instance", second, "z"), ("wrong id", "who", "b")):
            stray.call(f"heartbeat, {label}", "Heartbeat", 4, beat(g, member, 2, instance))
            stray.call(f"sync, {label}", "SyncGroup", 5, sync(g, member, 2, instance=instance))
            stray.call(f"commit, {label}", "OffsetCommit", 9, commit(g, ("t", 0, 1), member=member, generation=2, instance=instance))
            if label != "no instance":
                stray.call(f"join, {label}", "JoinGroup", 9, join(g, member, instance=instance))
            stray.call(f"leave, {label}", "LeaveGroup", 5, leave(g, (member, instance))) if label != "no instance" else None
        # A member that restarts: no id, its instance, the same protocols.
        for v in (9, 8, 5):
            answer = again.ask("JoinGroup", v, join(g, instance="b"))
            fresh = t.know(f"two of v{v}", answer["MemberId"])
            t.note(f"v{v} follower replaced", answer)
            two.call(f"v{v} old id beats", "Heartbeat", 4, beat(g, second, 2, "b"))
            two.call(f"v{v} old id joins", "JoinGroup", 9, join(g, second, instance="b"))
            again.call(f"v{v} new id syncs", "SyncGroup", 5, sync(g, fresh, 2, instance="b"))
            second = fresh
        for v in (9, 8, 5):
            answer = again.ask("JoinGroup", v, join(g, instance="a"))
            fresh = t.know(f"one of v{v}", answer["MemberId"])
            t.note(f"v{v} leader replaced", answer)
            one.call(f"v{v} old leader syncs", "SyncGroup", 5, sync(g, first, 2, instance="a"))
            again.call(f"v{v} new leader syncs", "SyncGroup", 5, sync(g, fresh, 2, instance="a"))
            first = fresh
        described(t, "after the replacements", g)
        # With other metadata.
        again.send("JoinGroup", 9, join(g, instance="b", protocols=[("range", b"other")]))
        again.waits("with other metadata")
        second = t.know("two, other", (answer := again.take())["MemberId"])
        t.note("replaced with other metadata", answer)
        one.call("leader hears of it", "Heartbeat", 4, beat(g, first, 2, "a"))
        stray.call("leave by instance", "LeaveGroup", 5, leave(g, ("", "b")))
        stray.call("leave by instance again", "LeaveGroup", 5, leave(g, ("", "b"), ("", "a")))
        described(t, "empty", g)


def list_groups(t):
    await_group(t, "listing")
    make_topic(t, "listing")
    t.ask("OffsetCommit", 9, commit("listing-offsets", ("listing", 0, 5)))
    with t.clients("one", "two", "three") as (one, two, three):
        alone(t, one, "listing-stable")
        joined(t, two, "listing-completing")
        alone(t, three, "listing-connect", kind="connect")
        t.ask("ConsumerGroupHeartbeat", 1, epoch_join("listing-new", new_member(t, "new"), "listing"))

        def ask(label, v, **filters):
            answer = t.ask("ListGroups", v, filters)
            answer["Groups"] = [g for g in answer["Groups"] if g["GroupId"].startswith("listing-")]
            t.note(f"v{v} {label}", answer)

        for v in supported("ListGroups"):
            ask("all", v)
        for states in (["Stable"], ["stable"], ["Empty", "CompletingRebalance"], ["PreparingRebalance"], ["Dead"], ["odd"], [""], ["Assigning", "Reconciling", "STABLE"]):
            for v in (4, 5):
                ask(f"states {states}", v, StatesFilter=states)
        for types in (["classic"], ["Consumer"], ["CLASSIC", "consumer"], ["share"], ["streams"], ["odd"], ["unknown"], [""]):
            ask(f"types {types}", 5, TypesFilter=types)
        ask("both", 5, TypesFilter=["classic"], StatesFilter=["Empty"])


def describe_groups(t):
    await_group(t, "describing")
    with t.clients("one") as (one,):
        alone(t, one, "describing-stable", kind="connect")
        t.ask("ConsumerGroupHeartbeat", 1, epoch_join("describing-new", new_member(t, "new"), "nothing"))
        for v in supported("DescribeGroups"):
            described(t, f"v{v}", "describing-stable", "describing-absent", "", "describing-stable", v=v)
            described(t, f"v{v} a consumer group", "describing-new", v=v)
            described(t, f"v{v} none", v=v)
            if v >= 3:
                body = {"Groups": ["describing-stable", "describing-absent"], "IncludeAuthorizedOperations": True}
                t.call(f"v{v} operations", "DescribeGroups", v, body)
        for v in supported("ConsumerGroupDescribe"):
            for operations in (False, True):
                names = ["describing-stable", "describing-absent", "", "describing-new"]
                body = {"GroupIds": names, "IncludeAuthorizedOperations": operations}
                t.call(f"consumer v{v} {operations}", "ConsumerGroupDescribe", v, body)
            t.call(f"consumer v{v} none", "ConsumerGroupDescribe", v, {"GroupIds": []})


def delete_groups(t):
    make_topic(t, "deleting")
    await_group(t, "deleting")
    with t.clients("one") as (one,):
        alone(t, one, "deleting-stable")
        t.ask("ConsumerGroupHeartbeat", 1, epoch_join("deleting-new", new_member(t, "new"), "nothing"))
        for v in supported("DeleteGroups"):
            t.ask("OffsetCommit", 9, commit("deleting-offsets", ("deleting", 0, 5)))
            names = ["deleting-stable", "deleting-absent", "", "deleting-offsets", "deleting-offsets", "deleting-new"]
            t.call(f"v{v}", "DeleteGroups", v, {"GroupsNames": names})
            t.call(f"v{v} none", "DeleteGroups", v, {"GroupsNames": []})
            t.call(f"v{v} offsets are gone", "OffsetFetch", 9, fetch(9, ("deleting-offsets", None)))


# Offsets.


def offset_commit(t):
    make_topic(t, "committed", 3)
    await_group(t, "committing")
    for v in supported("OffsetCommit", 9):
        g = f"committing-{v}"
        ask = lambda label, *rows, **more: t.call(f"v{v} {label}", "OffsetCommit", v, commit(g, *rows, **more))
        ask("simple", ("committed", 0, 5), ("committed", 1, 0, 3, "text"), ("committed", 3, 1), ("committed", -1, 1), ("absent", 0, 1))
        ask("negative", ("committed", 2, -1), ("committed", 1, -5))
        ask("epoch", ("committed", 2, 4, 9, None))
        ask("metadata", ("committed", 0, 6, -1, "x" * 4096), ("committed", 1, 6, -1, "x" * 4097))
        ask("metadata in bytes", ("committed", 0, 6, -1, "ü" * 2049), ("committed", 1, 6, -1, "ü" * 2048))
        ask("retention", ("committed", 0, 7), retention=1)
        ask("a generation", ("committed", 0, 1), generation=1)
        ask("a member", ("committed", 0, 1), member="who")
        ask("a member of a generation", ("committed", 0, 1), member="who", generation=1)
        ask("generation -2", ("committed", 0, 1), generation=-2)
        if v >= 7:
            ask("an instance", ("committed", 0, 1), instance="i")
            ask("all of them", ("committed", 0, 1), member="who", generation=1, instance="i")
        ask("nothing")
        ask("twice", ("committed", 0, 8), ("committed", 0, 9))
        ask("bad name", ("bad/name", 0, 1), ("", 0, 1))
        t.call(f"v{v} empty group", "OffsetCommit", v, commit("", ("committed", 0, 3)))
        t.call(f"v{v} empty group with a generation", "OffsetCommit", v, commit("", ("committed", 0, 3), member="m", generation=3))
        t.call(f"v{v} absent group with a generation", "OffsetCommit", v, commit("committing-absent", ("committed", 0, 3), member="m", generation=3))
        t.call(f"v{v} fetched", "OffsetFetch", 7, fetch(7, (g, None)))
    t.call("two of one topic", "OffsetCommit", 8, {**commit("committing"), "Topics": [{"Name": "committed", "Partitions": [{"PartitionIndex": p, "CommittedOffset": 2}]} for p in (0, 1)]})
    t.call("empty topics", "OffsetCommit", 8, {**commit("committing"), "Topics": [{"Name": "committed", "Partitions": []}, {"Name": "absent", "Partitions": []}]})
    with t.clients("one") as (one,):
        member, generation = alone(t, one, "committing-stable")
        for v in (2, 8, 9):
            rows = [("committed", 0, 5), ("absent", 0, 5)]
            ask = lambda label, **more: t.call(f"stable v{v} {label}", "OffsetCommit", v, commit("committing-stable", *rows, **more))
            ask("member", member=member, generation=generation)
            ask("old generation", member=member, generation=0)
            ask("new generation", member=member, generation=2)
            ask("no generation", member=member)
            ask("nobody")
            ask("other", member="who", generation=generation)
    described(t, "described", "committing-2", "committing-stable", "")


def offset_fetch(t):
    make_topic(t, "remembered", 3)
    make_topic(t, "remembered-other")
    await_group(t, "fetching")
    t.ask("OffsetCommit", 9, commit("fetching", ("remembered", 0, 5, 2, "text"), ("remembered", 2, 7), ("remembered-other", 0, 1)))
    t.ask("OffsetCommit", 9, commit("fetching-too", ("remembered", 1, 3)))
    for v in supported("OffsetFetch", 9):
        ask = lambda label, *groups, **more: t.call(f"v{v} {label}", "OffsetFetch", v, fetch(v, *groups, **more))
        some = [("remembered", [2, 0, 1, 9, -1]), ("absent", [0]), ("remembered-other", [0])]
        ask("some", ("fetching", some))
        ask("absent group", ("fetching-absent", some))
        ask("empty group", ("", [("remembered", [0])]))
        ask("none", ("fetching", []))
        ask("no partitions", ("fetching", [("remembered", [])]))
        ask("twice", ("fetching", [("remembered", [0, 0]), ("remembered", [0])]))
        ask("bad name", ("fetching", [("bad/name", [0]), ("", [0])]))
        if v >= 2:
            ask("all", ("fetching", None))
            ask("all of an absent group", ("fetching-absent", None))
            ask("all of the empty group", ("fetching-none", None))
        if v >= 7:
            ask("stable", ("fetching", some), stable=True)
            ask("all stable", ("fetching", None), stable=True)
        if v >= 8:
            ask("many", ("fetching", some), ("fetching-too", None), ("fetching-absent", None))
            ask("one twice", ("fetching", [("remembered", [0])]), ("fetching", None))
            ask("no groups")
        if v >= 9:
            ask("by a member", ("fetching", some), member="who", epoch=1)
            ask("by an epoch", ("fetching", some), member=None, epoch=1)
            ask("by a member of epoch -1", ("fetching", None), member="who", epoch=-1)
            ask("absent group by a member", ("fetching-absent", some), member="who", epoch=1)


def offset_delete(t):
    make_topic(t, "dropped", 3)
    make_topic(t, "dropped-too", 1)
    await_group(t, "dropping")

    def ask(label, group, *topics):
        topics = [{"Name": n, "Partitions": [{"PartitionIndex": p} for p in ps]} for n, ps in topics]
        t.call(label, "OffsetDelete", 0, {"GroupId": group, "Topics": topics})
        t.call(f"{label}: left", "OffsetFetch", 7, fetch(7, (group or "none", None)))

    put = lambda group, **more: t.ask("OffsetCommit", 9, commit(group, ("dropped", 0, 5), ("dropped", 1, 5), ("dropped-too", 0, 5), **more))
    put("dropping")
    ask("one", "dropping", ("dropped", [0]))
    ask("absent", "dropping", ("dropped", [2, 9, -1]), ("absent", [0]), ("bad/name", [0]), ("", [0]))
    ask("none", "dropping")
    ask("no partitions", "dropping", ("dropped", []), ("absent", []))
    ask("absent group", "dropping-absent", ("dropped", [0]))
    ask("no group", "", ("dropped", [0]))
    ask("twice", "dropping", ("dropped", [1, 1]), ("dropped", [0]))
    ask("the last", "dropping", ("dropped-too", [0]))
    described(t, "what is left of it", "dropping")
    with t.clients("one", "two") as (one, two):
        member, generation = alone(t, one, "dropping-stable", protocols=[("range", subscription("dropped"))])
        put("dropping-stable", member=member, generation=generation)
        ask("subscribed", "dropping-stable", ("dropped", [0]), ("dropped-too", [0]), ("absent", [0]))
        member, generation = alone(t, two, "dropping-connect", kind="connect")
        put("dropping-connect", member=member, generation=generation)
        ask("not a consumer", "dropping-connect", ("dropped", [0]), ("dropped-too", [0]))
        member = new_member(t, "new")
        t.ask("ConsumerGroupHeartbeat", 1, epoch_join("dropping-new", member, "dropped"))
        put("dropping-new", member=member, generation=1)
        ask("a consumer group", "dropping-new", ("dropped", [0]), ("dropped-too", [0]))


def group_topic_deleted(t):
    """A topic goes: so do the offsets of all groups in it; members of new groups lose it."""
    kept, gone = make_topic(t, "gone-kept"), make_topic(t, "gone", 2)
    await_group(t, "mourning")
    t.ask("OffsetCommit", 9, commit("mourning", ("gone-kept", 0, 1), ("gone", 0, 1), ("gone", 1, 1)))
    t.ask("OffsetCommit", 9, commit("mourning-all", ("gone", 0, 1)))
    consumer = Consumer(t, "mourning-new", "new")
    t.note("joins", consumer.beat(["gone", "gone-kept"]))
    t.ask("OffsetCommit", 9, commit("mourning-new", ("gone", 0, 1), member=consumer.id, generation=1))
    t.ask("DeleteTopics", 6, {"Topics": [{"Name": "gone"}], "TimeoutMs": 10_000})
    offsets = lambda g: t.ask("OffsetFetch", 7, fetch(7, (g, None)))["Topics"]
    deadline = time.monotonic() + 10
    while (len(offsets("mourning")) > 1 or offsets("mourning-all") or offsets("mourning-new")) and time.monotonic() < deadline:
        time.sleep(0.05)
    for g in ("mourning", "mourning-all", "mourning-new"):
        t.call(f"{g} keeps", "OffsetFetch", 7, fetch(7, (g, None)))
    described(t, "described", "mourning", "mourning-all")
    t.call("commits to it", "OffsetCommit", 9, commit("mourning", ("gone", 0, 1), ("gone-kept", 0, 2)))
    consumer.until("without the topic", kept)
    consumer.until("with the new topic", kept, make_topic(t, "gone", 1))
    t.call("the new topic has no offsets", "OffsetFetch", 7, fetch(7, ("mourning", None)))


# Consumer groups (KIP-848).


class Consumer:
    """A member of a consumer group that takes and gives up what it is told."""

    def __init__(self, t, group, name, epoch=0, owned=None):
        self.t, self.group, self.id = t, group, name if name in t.members else new_member(t, name)
        self.epoch, self.owned = epoch, owned or {}

    def beat(self, topics=None, **more):
        body = epoch_beat(self.group, self.id, self.epoch, topics, self.owned, 10_000, **more)
        answer = self.t.ask("ConsumerGroupHeartbeat", 1, body)
        if not answer["ErrorCode"]:
            self.epoch = answer["MemberEpoch"]
        if answer["Assignment"] is not None:
            self.owned = {p["TopicId"]: sorted(p["Partitions"]) for p in answer["Assignment"]["TopicPartitions"]}
        return answer

    def until(self, label, *topics, seconds=5, with_epoch=True):
        """Heartbeats until it owns partitions of these topics and no others, and compares what they are."""
        deadline = time.monotonic() + seconds
        while set(self.owned) != set(topics) and time.monotonic() < deadline:
            time.sleep(0.05)
            if self.beat()["ErrorCode"]:
                break
        owned = {self.t.ids.get(topic, "?"): partitions for topic, partitions in self.owned.items()}
        self.t.note(label, [self.epoch if with_epoch else "any", dict(sorted(owned.items()))])


def consumer_group_errors(t):
    topic = make_topic(t, "epoched", 2)
    await_group(t, "epoched")
    for v in supported("ConsumerGroupHeartbeat"):
        g = f"epochs-{v}"
        ask = lambda label, body: t.call(f"v{v} {label}", "ConsumerGroupHeartbeat", v, body)
        ask("no group", epoch_join("", "m", "epoched"))
        ask("blank group", epoch_join("  ", "m", "epoched"))
        ask("no member", epoch_join(g + "-anonymous", "", "epoched"))
        ask("no member, epoch 1", epoch_beat(g, "", 1))
        ask("no member, epoch -1", epoch_beat(g, "", -1))
        ask("blank member", epoch_join(g, " ", "epoched"))
        ask("no rebalance timeout", epoch_join(g, "m", "epoched", rebalance=-1))
        ask("rebalance timeout 0", epoch_join(g, "m", "epoched", rebalance=0))
        ask("no owned partitions", epoch_beat(g, "m", 0, ["epoched"], None, 10_000))
        ask("owned partitions", epoch_beat(g, "m", 0, ["epoched"], {topic: [0]}, 10_000))
        ask("no topics", epoch_beat(g, "m", 0, None, {}, 10_000))
        ask("empty topics", epoch_beat(g + "-no-topics", "m", 0, [], {}, 10_000))
        ask("no instance", epoch_join(g, "m", "epoched", instance=""))
        ask("blank instance", epoch_join(g, "m", "epoched", instance=" "))
        ask("no rack", epoch_join(g, "m", "epoched", RackId=""))
        ask("odd assignor", epoch_join(g, "m", "epoched", ServerAssignor="odd"))
        ask("no assignor", epoch_join(g, "m", "epoched", ServerAssignor=""))
        ask("range assignor", epoch_join(g + "-range", "m", "epoched", ServerAssignor="range"))
        ask("epoch -2 without instance", epoch_beat(g, "m", -2))
        ask("epoch -3", epoch_beat(g, "m", -3))
        ask("epoch 1, absent group", epoch_beat(g, "m", 1))
        ask("epoch 1, absent group, everything", epoch_beat(g, "m", 1, ["epoched"], {}, 10_000))
        ask("epoch -1, absent group", epoch_beat(g, "m", -1))
        ask("epoch -2, absent group", epoch_beat(g, "m", -2, instance="i"))
        if v >= 1:
            regex = lambda text, **more: epoch_beat(f"{g}-regex {text}", "m", 0, more.pop("topics", None), {}, 10_000, SubscribedTopicRegex=text, **more)
            for text in ("(", "[", "a{2,1}", "*", "(?=x)", "\\", "a**"):
                ask(f"regex {text!r}", regex(text))
            ask("regex empty", regex(""))
            ask("regex and topics", regex("epoche.", topics=["epoched"]))
            ask("regex empty and topics empty", regex("", topics=[]))
        consumers_described(t, f"v{v} left behind", g, g + "-range", g + "-no-topics")
        ask("range leaves", epoch_beat(g + "-range", "m", -1))
        consumers_described(t, f"v{v} empty", g + "-range")
        t.call(f"v{v} deleted", "DeleteGroups", 2, {"GroupsNames": [g + "-range", g + "-no-topics"]})


def consumer_group_life(t):
    first, second = make_topic(t, "alive", 4), make_topic(t, "alive-too", 1)
    await_group(t, "alive")
    g = "alive"
    one, two = new_member(t, "one"), new_member(t, "two")
    ask = lambda label, body: t.call(label, "ConsumerGroupHeartbeat", 1, body)
    ask("one joins", epoch_join(g, one, "alive"))
    consumers_described(t, "one, described", g)
    ask("one beats", epoch_beat(g, one, 1))
    ask("one owns", epoch_beat(g, one, 1, owned={first: [0, 1, 2, 3]}))
    ask("one beats in full", epoch_beat(g, one, 1, ["alive"], {first: [0, 1, 2, 3]}, 10_000))
    ask("one joins again", epoch_join(g, one, "alive"))
    ask("older epoch", epoch_beat(g, one, 0))
    ask("newer epoch", epoch_beat(g, one, 2))
    ask("much newer epoch", epoch_beat(g, one, 99, owned={first: [0]}))
    ask("stranger", epoch_beat(g, "who", 1))
    ask("stranger leaves", epoch_beat(g, "who", -1))
    t.call("commit", "OffsetCommit", 9, commit(g, ("alive", 0, 3), member=one, generation=1))
    for v in (2, 8, 9):
        put = lambda label, **more: t.call(f"commit v{v} {label}", "OffsetCommit", v, commit(g, ("alive", 0, 3), ("absent", 0, 1), **more))
        put("of the epoch", member=one, generation=1)
        put("of an older epoch", member=one, generation=0)
        put("of a newer epoch", member=one, generation=2)
        put("of epoch -1", member=one)
        put("of a stranger", member="who", generation=1)
        put("of nobody")
    for label, member, epoch in (("member", one, 1), ("older", one, 0), ("newer", one, 2), ("stranger", "who", 1), ("nobody", None, -1), ("no epoch", one, -1)):
        t.call(f"fetch by {label}", "OffsetFetch", 9, fetch(9, (g, [("alive", [0, 1])]), member=member, epoch=epoch))
        t.call(f"fetch all by {label}", "OffsetFetch", 9, fetch(9, (g, None), member=member, epoch=epoch))
    t.call("fetch by old version", "OffsetFetch", 7, fetch(7, (g, [("alive", [0])])))
    # A second member takes half, once the first has given it up.
    ask("two joins", epoch_join(g, two, "alive"))
    consumers_described(t, "two, described", g)
    ask("two beats", epoch_beat(g, two, 2, owned={}))
    taken = ask("one is told to give up", epoch_beat(g, one, 1, owned={first: [0, 1, 2, 3]}))
    t.call("commit of the epoch before", "OffsetCommit", 9, commit(g, ("alive", 0, 4), member=one, generation=1))
    consumers_described(t, "giving up, described", g)
    t.call("listed while reconciling", "ListGroups", 5, {"StatesFilter": ["Reconciling"]})
    kept = {p["TopicId"]: p["Partitions"] for p in (taken["Assignment"] or {}).get("TopicPartitions", [])}
    ask("one gave up", epoch_beat(g, one, 1, owned=kept))
    ask("two gets", epoch_beat(g, two, 2, owned={}))
    consumers_described(t, "both, described", g)
    ask("two is still at work", epoch_beat(g, two, 2))
    t.call("commit stale", "OffsetCommit", 9, commit(g, ("alive", 0, 4), member=one, generation=1))
    t.call("commit now", "OffsetCommit", 9, commit(g, ("alive", 0, 4), member=one, generation=2))
    # The subscription changes.
    ask("one wants more", epoch_beat(g, one, 2, ["alive", "alive-too", "alive-later"], kept))
    more = Consumer(t, g, one, 3, kept)
    more.until("one has more", first, second)
    consumers_described(t, "more, described", g)
    ask("one by another assignor", epoch_beat(g, one, 3, ServerAssignor="range"))
    ask("one by an odd assignor", epoch_beat(g, one, 3, ServerAssignor="odd"))
    described(t, "as a classic group", g)
    described(t, "as a classic group v5", g, v=5)
    t.call("deleted while used", "DeleteGroups", 2, {"GroupsNames": [g]})
    ask("one leaves", epoch_beat(g, one, -1))
    ask("one leaves again", epoch_beat(g, one, -1))
    ask("one beats after", epoch_beat(g, one, 4))
    ask("two leaves", epoch_beat(g, two, -1))
    consumers_described(t, "empty, described", g)
    t.call("simple commit", "OffsetCommit", 9, commit(g, ("alive", 1, 9)))
    t.call("commit by epoch 0", "OffsetCommit", 9, commit(g, ("alive", 1, 9), member="m", generation=0))
    t.call("what it kept", "OffsetFetch", 9, fetch(9, (g, None)))
    t.call("deleted", "DeleteGroups", 2, {"GroupsNames": [g]})
    consumers_described(t, "gone, described", g)


def consumer_group_by_classic(t):
    """Requests of the classic protocol to a consumer group with a member; those that change nothing first."""
    make_topic(t, "mixed")
    await_group(t, "mixed")
    g, member = "mixed", new_member(t, "one")
    t.call("joins", "ConsumerGroupHeartbeat", 1, epoch_join(g, member, "mixed"))
    for who, name in ((member, "member"), ("who", "stranger"), ("", "nobody")):
        for generation in (1, 7):
            t.call(f"sync of {name}, {generation}", "SyncGroup", 5, sync(g, who, generation))
            t.call(f"heartbeat of {name}, {generation}", "Heartbeat", 4, beat(g, who, generation))
        t.call(f"sync of {name} of an instance", "SyncGroup", 5, sync(g, who, 1, instance="i"))
        t.call(f"heartbeat of {name} of an instance", "Heartbeat", 4, beat(g, who, 1, "i"))
        if name != "member":
            for v in (2, 5):
                t.call(f"leave v{v} of {name}", "LeaveGroup", v, leave(g, (who, None)))
    t.call("leave of an instance", "LeaveGroup", 5, leave(g, ("", "nobody"), ("who", "nobody")))
    t.call("join as connect", "JoinGroup", 9, join(g, kind="connect"))
    for v in (0, 4, 9):
        t.call(f"join v{v}", "JoinGroup", v, join(g, protocols=[("range", subscription("mixed"))]))
    t.call("join with odd bytes", "JoinGroup", 3, join(g))


def consumer_group_to_classic(t):
    """One name for groups of both protocols."""
    make_topic(t, "both")
    await_group(t, "both")
    ask = lambda label, body: t.call(label, "ConsumerGroupHeartbeat", 1, body)
    t.ask("OffsetCommit", 9, commit("both-simple", ("both", 0, 7)))
    ask("over simple offsets", epoch_join("both-simple", new_member(t, "zero"), "both"))
    t.call("they stay", "OffsetFetch", 9, fetch(9, ("both-simple", None)))
    with t.clients("one", "two") as (one, two):
        member, generation = alone(t, one, "both-classic", protocols=[("range", subscription("both"))])
        ask("into a classic group", epoch_join("both-classic", new_member(t, "new"), "both"))
        ask("beat in a classic group", epoch_beat("both-classic", member, 1))
        ask("leave of a classic group", epoch_beat("both-classic", member, -1))
        consumers_described(t, "a classic group", "both-classic")
        one.call("heartbeat of the classic member", "Heartbeat", 4, beat("both-classic", member, generation))
        t.call("commits", "OffsetCommit", 9, commit("both-classic", ("both", 0, 8), member=member, generation=generation))
        one.call("leaves", "LeaveGroup", 5, leave("both-classic", (member, None)))
        # Empty: whoever comes makes it a group of its own kind.
        fresh = new_member(t, "fresh")
        ask("into the empty classic group", epoch_join("both-classic", fresh, "both"))
        consumers_described(t, "now a consumer group", "both-classic")
        described(t, "no classic group", "both-classic")
        t.call("its offsets stay", "OffsetFetch", 9, fetch(9, ("both-classic", None)))
        ask("leaves the consumer group", epoch_beat("both-classic", fresh, -1))
        answer = two.call("back to classic, an id", "JoinGroup", 9, join("both-classic", protocols=[("range", subscription("both"))]))
        back = t.know("two", answer["MemberId"])
        two.call("back to classic", "JoinGroup", 9, join("both-classic", back, protocols=[("range", subscription("both"))]))
        t.call("offsets still there", "OffsetFetch", 9, fetch(9, ("both-classic", None)))
        t.call("listed", "ListGroups", 5, {"StatesFilter": ["CompletingRebalance"], "TypesFilter": ["consumer"]})


def consumer_group_static(t):
    topic = make_topic(t, "rigid", 2)
    await_group(t, "rigid")
    g = "rigid"
    one, two, fresh = new_member(t, "one"), new_member(t, "two"), new_member(t, "fresh")
    ask = lambda label, body: t.call(label, "ConsumerGroupHeartbeat", 1, body)
    ask("one joins", epoch_join(g, one, "rigid", instance="a"))
    ask("one owns", epoch_beat(g, one, 1, owned={topic: [0, 1]}, instance="a"))
    ask("same instance while it lives", epoch_join(g, two, "rigid", instance="a"))
    ask("beat without the instance", epoch_beat(g, one, 1))
    ask("beat of another instance", epoch_beat(g, one, 1, instance="b"))
    ask("stranger of the instance", epoch_beat(g, "who", 1, instance="a"))
    ask("stranger of no instance", epoch_beat(g, "who", 1, instance="z"))
    ask("temporary leave of a stranger", epoch_beat(g, "who", -2, instance="a"))
    ask("temporary leave of no instance", epoch_beat(g, one, -2, instance="z"))
    ask("temporary leave", epoch_beat(g, one, -2, instance="a"))
    consumers_described(t, "one is away", g)
    ask("it beats though away", epoch_beat(g, one, 1, instance="a"))
    ask("temporary leave again", epoch_beat(g, one, -2, instance="a"))
    ask("comes back by another id", epoch_join(g, fresh, "rigid", instance="a"))
    ask("the old id beats", epoch_beat(g, one, 1, instance="a"))
    ask("the old id leaves", epoch_beat(g, one, -1, instance="a"))
    ask("the new id beats", epoch_beat(g, fresh, 1, instance="a"))
    consumers_described(t, "it is back", g)
    t.call("commit of the old id", "OffsetCommit", 9, commit(g, ("rigid", 0, 3), member=one, generation=1, instance="a"))
    t.call("commit of the new id", "OffsetCommit", 9, commit(g, ("rigid", 0, 3), member=fresh, generation=1, instance="a"))
    t.call("removed by its instance", "LeaveGroup", 5, leave(g, ("", "nobody"), ("", "a")))
    consumers_described(t, "removed", g)
    ask("beat when removed", epoch_beat(g, fresh, 1, instance="a"))
    last = new_member(t, "last")
    ask("a dynamic member", epoch_join(g, last, "rigid"))
    t.call("removed by its id", "LeaveGroup", 5, leave(g, (last, None)))
    t.call("removed by its id, v0", "LeaveGroup", 0, leave(g, (last, None)))
    consumers_described(t, "nobody left", g)


def consumer_group_regex(t):
    first = make_topic(t, "pattern-a", 1)
    make_topic(t, "other-pattern-a", 1)
    await_group(t, "pattern")
    g = "pattern"
    one = Consumer(t, g, "one")
    answer = one.beat(SubscribedTopicRegex="pattern-[ab]")
    t.note("joins", [answer["ErrorCode"], answer["HeartbeatIntervalMs"]])
    # Kafka looks for the topics beside the answer, and again every ten seconds at most; we see them before we answer.
    one.until("found", first, with_epoch=False)
    second = make_topic(t, "pattern-b", 1)
    one.until("a topic more", first, second, seconds=15, with_epoch=False)
    consumers_described(t, "described", g)
    t.note("another pattern", one.beat(SubscribedTopicRegex="pattern-b")["ErrorCode"])
    one.until("one topic less", second, with_epoch=False)
    t.note("bad pattern", one.beat(SubscribedTopicRegex="(")["ErrorCode"])
    # What RE2J refuses though others do not, and takes though others refuse: tests/golden/patterns has many more.
    for label, pattern in [
        ("verbose flag", "(?x)pattern-a"), ("word start", r"\<pattern-a"), ("unicode escape", r"\u0070attern-a"),
        ("count without least", "pattern-a{,3}"), ("octal", r"\160attern-a"), ("group twice", "(?P<n>a)(?P<n>b)"),
        ("brace and star", "a{*"), ("look ahead", "(?=a)"), ("class in class", "[[p]attern"), ("too often", "a{1001}"),
    ]:
        t.note(label, one.beat(SubscribedTopicRegex=pattern)["ErrorCode"])
    one.beat(SubscribedTopicRegex=r"\Qpattern-a\E|other[a-z&&-]*[[:punct:]-a]b")
    one.until("quoted", first, with_epoch=False)
    t.note("a name and no pattern", one.beat(["pattern-a"], SubscribedTopicRegex="")["ErrorCode"])
    one.until("by name", first, with_epoch=False)
    described_now = t.ask("ConsumerGroupDescribe", 1, {"GroupIds": [g]})["Groups"][0]
    t.note("subscription", [[m["SubscribedTopicNames"], m["SubscribedTopicRegex"]] for m in described_now["Members"]])



SCENARIOS = [
    group_no_coordinator,
    find_coordinator,
    group_join_errors,
    group_join_big,
    group_life,
    group_two_members,
    group_rebalance_timeout,
    group_requests_by_strangers,
    group_static,
    list_groups,
    describe_groups,
    delete_groups,
    offset_commit,
    offset_fetch,
    offset_delete,
    group_topic_deleted,
    consumer_group_errors,
    consumer_group_life,
    consumer_group_by_classic,
    consumer_group_to_classic,
    consumer_group_static,
    consumer_group_regex,
]

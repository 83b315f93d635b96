"""What `compare` asks both brokers about consumer groups: every version, every mistake that one connection can make.

Members that wait for each other are for the ecosystem run; here a group has at most one member, so that each request is
answered before the next is sent.
"""

import time
import uuid

from scenarios import STRANGE_ID, ZERO_ID, make_topic, versions

CONSUMER = {"ProtocolType": "consumer"}


def protocols(*names):
    return [{"Name": name, "Metadata": name.encode()} for name in names]


def join_body(group, member="", **more):
    body = {"GroupId": group, "MemberId": member, "SessionTimeoutMs": 30_000, "RebalanceTimeoutMs": 60_000, **CONSUMER}
    return {**body, "Protocols": protocols("range"), **more}


def await_coordinator(t, group):
    """The first group of a cluster waits for `__consumer_offsets`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = t.ask("FindCoordinator", 3, {"Key": group, "KeyType": 0})
        if not found["ErrorCode"]:
            answer = t.ask("OffsetFetch", 7, {"GroupId": group, "Topics": None})
            if not answer["ErrorCode"]:
                return
        time.sleep(0.1)
    raise AssertionError(f"{group} has no coordinator")


def join_alone(t, group, **more):
    """Joins as the only member and assigns `one` to itself: (member id, generation)."""
    await_coordinator(t, group)
    member = t.ask("JoinGroup", 9, join_body(group, **more))["MemberId"]
    joined = t.ask("JoinGroup", 9, join_body(group, member, **more))
    assert joined["ErrorCode"] == 0, joined
    synced = t.ask("SyncGroup", 5, sync_body(group, member, joined["GenerationId"]))
    assert synced["ErrorCode"] == 0, synced
    return member, joined["GenerationId"]


def sync_body(group, member, generation, **more):
    assignments = [{"MemberId": member, "Assignment": b"one"}]
    body = {"GroupId": group, "GenerationId": generation, "MemberId": member, "Assignments": assignments}
    return {**body, **CONSUMER, "ProtocolName": "range", **more}


def commit_body(group, topic, offset, member="", generation=-1, topic_id=ZERO_ID, partition=0, metadata="note", **more):
    row = {"PartitionIndex": partition, "CommittedOffset": offset, "CommittedMetadata": metadata}
    topics = [{"Name": topic, "TopicId": topic_id, "Partitions": [row]}]
    return {"GroupId": group, "MemberId": member, "GenerationIdOrMemberEpoch": generation, "Topics": topics, **more}


def group_coordinator(t):
    await_coordinator(t, "found")
    for v in versions("FindCoordinator"):
        body = {"Key": "found", "CoordinatorKeys": ["found", ""]}
        t.call(f"v{v}", "FindCoordinator", v, {**body, **({"KeyType": 0} if v > 0 else {})})
    t.call("empty", "FindCoordinator", 3, {"Key": "", "KeyType": 0})
    t.call("no keys", "FindCoordinator", 4, {"KeyType": 0, "CoordinatorKeys": []})
    t.call("kind 9", "FindCoordinator", 4, {"KeyType": 9, "CoordinatorKeys": ["x"]})
    t.call("kind -1", "FindCoordinator", 3, {"KeyType": -1, "Key": "x"})


def group_classic_versions(t):
    for v in versions("JoinGroup"):
        group = f"classic-v{v}"
        await_coordinator(t, group)
        first = t.call(f"join v{v}", "JoinGroup", v, join_body(group))
        if first["ErrorCode"]:
            first = t.call(f"join v{v} again", "JoinGroup", v, join_body(group, first["MemberId"]))
        member, generation = first["MemberId"], first["GenerationId"]
        w = min(v, 5)
        t.call(f"sync v{w} after join v{v}", "SyncGroup", w, sync_body(group, member, generation))
        t.call(f"sync v{w} after join v{v} again", "SyncGroup", w, sync_body(group, member, generation))
        w = min(v, 4)
        body = {"GroupId": group, "GenerationId": generation, "MemberId": member}
        t.call(f"heartbeat v{w} after join v{v}", "Heartbeat", w, body)
        w = min(v, 6)
        described = t.ask("DescribeGroups", w, {"Groups": [group]})["Groups"][0]
        for row in described["Members"]:
            row["ClientHost"] = row["ClientHost"].lstrip("/")
        t.note(f"describe v{w} after join v{v}", described)
        w = min(v, 5)
        body = {"GroupId": group, "MemberId": member, "Members": [{"MemberId": member}, {"MemberId": "stranger"}]}
        t.call(f"leave v{w} after join v{v}", "LeaveGroup", w, body)
        t.call(f"heartbeat after leave v{w}, join v{v}", "Heartbeat", 4, {"GroupId": group, "GenerationId": generation, "MemberId": member})


def group_join_mistakes(t):
    await_coordinator(t, "mistakes")
    join = lambda label, v=9, group="mistakes", member="", **more: t.call(label, "JoinGroup", v, join_body(group, member, **more))
    join("no group", group="")
    join("unknown member", member="stranger")
    join("short session", SessionTimeoutMs=5_999)
    join("long session", SessionTimeoutMs=1_800_001)
    join("no protocols", v=3, Protocols=[])
    join("no protocol type", v=3, ProtocolType="")
    member, generation = join_alone(t, "taken")
    join("other type", v=3, group="taken", ProtocolType="connect")
    join("no common protocol", v=3, group="taken", Protocols=protocols("sticky"))
    join("unknown member of a group", group="taken", member="stranger")
    sync = lambda label, v=5, group="taken", m=member, g=generation, **more: t.call(label, "SyncGroup", v, sync_body(group, m, g, **more))
    sync("sync no group", group="")
    sync("sync unknown group", group="nowhere")
    sync("sync unknown member", m="stranger")
    sync("sync old generation", g=generation - 1)
    sync("sync new generation", g=generation + 1)
    sync("sync other type", ProtocolType="connect")
    sync("sync other protocol", ProtocolName="sticky")
    sync("sync before names", v=4)
    beat = lambda label, group="taken", m=member, g=generation, **more: t.call(
        label, "Heartbeat", 4, {"GroupId": group, "GenerationId": g, "MemberId": m, **more}
    )
    beat("beat")
    beat("beat no group", group="")
    beat("beat unknown group", group="nowhere")
    beat("beat unknown member", m="stranger")
    beat("beat no member", m="")
    beat("beat old generation", g=generation - 1)
    beat("beat instance of nobody", GroupInstanceId="nobody")
    leave = lambda label, v, **body: t.call(label, "LeaveGroup", v, {"GroupId": "taken", **body})
    leave("leave nobody", 5, Members=[])
    leave("leave stranger", 5, Members=[{"MemberId": "stranger"}])
    leave("leave stranger v2", 2, MemberId="stranger")
    leave("leave unknown instance", 5, Members=[{"MemberId": "", "GroupInstanceId": "nobody"}])
    t.call("leave unknown group", "LeaveGroup", 5, {"GroupId": "nowhere", "Members": [{"MemberId": "x"}]})
    t.call("leave no group", "LeaveGroup", 5, {"GroupId": "", "Members": [{"MemberId": "x"}]})
    beat("beat still")


def group_static_member(t):
    await_coordinator(t, "static")
    joined = t.call("join", "JoinGroup", 9, join_body("static", GroupInstanceId="one"))
    member, generation = joined["MemberId"], joined["GenerationId"]
    t.call("sync", "SyncGroup", 5, sync_body("static", member, generation, GroupInstanceId="one"))
    again = t.call("replaces itself", "JoinGroup", 9, join_body("static", GroupInstanceId="one"))
    t.note("another id", again["MemberId"] != member)
    beat = {"GroupId": "static", "GenerationId": again["GenerationId"], "GroupInstanceId": "one"}
    t.call("the old one is fenced", "Heartbeat", 4, {**beat, "MemberId": member})
    t.call("the new one beats", "Heartbeat", 4, {**beat, "MemberId": again["MemberId"]})
    make_topic(t, "static-topic")
    t.call("the old one commits", "OffsetCommit", 9, commit_body("static", "static-topic", 1, member, again["GenerationId"], GroupInstanceId="one"))
    t.call("removed by an admin", "LeaveGroup", 5, {"GroupId": "static", "Members": [{"MemberId": "", "GroupInstanceId": "one"}]})
    t.call("beats when removed", "Heartbeat", 4, {**beat, "MemberId": again["MemberId"]})


def group_offsets(t):
    topic_id = make_topic(t, "committed", partitions=2)
    await_coordinator(t, "simple")
    by_name = [{"Name": "committed", "PartitionIndexes": [0, 1]}]
    by_id = [{**by_name[0], "TopicId": topic_id}]
    for v in versions("OffsetCommit"):
        t.call(f"commit v{v}", "OffsetCommit", v, commit_body("simple", "committed", 10 + v, topic_id=topic_id))
    for v in versions("OffsetFetch"):
        body = {"GroupId": "simple", "Topics": by_name, "Groups": [{"GroupId": "simple", "Topics": by_id}]}
        t.call(f"fetch v{v}", "OffsetFetch", v, body)
        if v >= 2:
            everything = {"GroupId": "simple", "Topics": None, "Groups": [{"GroupId": "simple", "Topics": None}]}
            t.call(f"fetch all v{v}", "OffsetFetch", v, everything)
    commit = lambda label, v=9, group="simple", topic="committed", offset=5, **more: t.call(
        label, "OffsetCommit", v, commit_body(group, topic, offset, **more)
    )
    commit("no group", group="")
    commit("unknown topic", topic="nothing-here")
    commit("unknown partition", partition=9)
    commit("negative partition", partition=-1)
    commit("negative offset", offset=-1)
    commit("null metadata", metadata=None)
    commit("long metadata", metadata="x" * 4097)
    commit("longest metadata", metadata="x" * 4096)
    commit("strange topic id", v=10, topic_id=STRANGE_ID)
    commit("no topic id", v=10, topic_id=ZERO_ID)
    commit("generation of no group", group="unborn", generation=3, member="m")
    commit("member of an empty group", member="m")
    commit("generation of an empty group", generation=1)
    member, generation = join_alone(t, "joined")
    commit("as a member", group="joined", member=member, generation=generation)
    commit("without a member", group="joined")
    commit("old generation", group="joined", member=member, generation=generation - 1)
    commit("stranger", group="joined", member="stranger", generation=generation)
    commit("instance of nobody", group="joined", member=member, generation=generation, GroupInstanceId="nobody")
    groups = lambda label, v, *rows: t.call(label, "OffsetFetch", v, {"Groups": list(rows), "RequireStable": True})
    groups("many groups", 9, {"GroupId": "simple", "Topics": None}, {"GroupId": "joined", "Topics": None}, {"GroupId": "nobody", "Topics": None})
    groups("no groups", 9)
    groups("empty name", 9, {"GroupId": "", "Topics": None})
    groups("no topics", 9, {"GroupId": "simple", "Topics": []})
    groups("unknown topic id", 10, {"GroupId": "simple", "Topics": [{"TopicId": STRANGE_ID, "PartitionIndexes": [0]}]})
    groups("member of a classic group", 9, {"GroupId": "joined", "MemberId": "m", "MemberEpoch": 7, "Topics": None})
    t.call("unknown topic fetched", "OffsetFetch", 7, {"GroupId": "simple", "Topics": [{"Name": "nothing-here", "PartitionIndexes": [0]}]})


def group_admin(t):
    make_topic(t, "administered", partitions=2)
    member, _ = join_alone(t, "administered-live")
    await_coordinator(t, "administered-idle")
    for partition in (0, 1):
        t.ask("OffsetCommit", 9, commit_body("administered-idle", "administered", 3, partition=partition))
    ours = lambda answer: sorted((g for g in answer["Groups"] if g["GroupId"].startswith("administered")), key=lambda g: g["GroupId"])
    for v in versions("ListGroups"):
        t.note(f"list v{v}", ours(t.ask("ListGroups", v, {})))
    for states in (["Stable"], ["stable"], ["Empty"], ["Dead"], ["Nonsense"], ["Stable", "Empty"]):
        t.note(f"list {states}", ours(t.ask("ListGroups", 5, {"StatesFilter": states})))
    for types in (["classic"], ["Classic"], ["consumer"], ["nonsense"]):
        answer = t.ask("ListGroups", 5, {"TypesFilter": types})
        t.note(f"list {types}", [answer["ErrorCode"], ours(answer)])
    for v in versions("DescribeGroups"):
        t.call(f"describe nobody v{v}", "DescribeGroups", v, {"Groups": ["administered-nobody", ""]})
        t.call(f"describe idle v{v}", "DescribeGroups", v, {"Groups": ["administered-idle"]})
    operations = {"Groups": ["administered-idle"], "IncludeAuthorizedOperations": True}
    t.call("describe with operations", "DescribeGroups", 5, operations)
    for v in versions("ConsumerGroupDescribe"):
        t.call(f"describe classic as consumer v{v}", "ConsumerGroupDescribe", v, {"GroupIds": ["administered-idle", "administered-nobody", ""]})
    drop = lambda label, group, topic="administered", partitions=(0,): t.call(
        label, "OffsetDelete", 0, {"GroupId": group, "Topics": [{"Name": topic, "Partitions": [{"PartitionIndex": p} for p in partitions]}]}
    )
    drop("offsets of a live group", "administered-live")
    drop("offsets of nobody", "administered-nobody")
    drop("offsets of no group", "")
    drop("offset", "administered-idle")
    drop("offset again", "administered-idle")
    drop("offset of an unknown topic", "administered-idle", topic="nothing-here")
    drop("offset of an unknown partition", "administered-idle", partitions=(1, 7))
    for v in versions("DeleteGroups"):
        t.call(f"delete live and nobody v{v}", "DeleteGroups", v, {"GroupsNames": ["administered-live", "administered-nobody", ""]})
    t.call("delete none", "DeleteGroups", 2, {"GroupsNames": []})
    t.call("delete", "DeleteGroups", 2, {"GroupsNames": ["administered-idle"]})
    t.call("delete again", "DeleteGroups", 2, {"GroupsNames": ["administered-idle"]})
    t.ask("LeaveGroup", 5, {"GroupId": "administered-live", "Members": [{"MemberId": member}]})
    t.call("delete when left", "DeleteGroups", 2, {"GroupsNames": ["administered-live"]})


def heartbeat_body(group, member, epoch, **more):
    return {"GroupId": group, "MemberId": member, "MemberEpoch": epoch, **more}


def group_consumer_protocol(t):
    topic_id = make_topic(t, "assigned", partitions=2)
    await_coordinator(t, "modern")
    mine = lambda: str(uuid.UUID(int=7))
    joining = {"RebalanceTimeoutMs": 60_000, "SubscribedTopicNames": ["assigned"], "TopicPartitions": []}
    beat = lambda label, group="modern", member=mine(), epoch=0, v=1, **more: t.call(
        label, "ConsumerGroupHeartbeat", v, heartbeat_body(group, member, epoch, **more)
    )
    beat("no group", group="", **joining)
    beat("no member v1", member="", **joining)
    beat("bad epoch", epoch=-3, **joining)
    beat("no rebalance timeout", **{**joining, "RebalanceTimeoutMs": -1})
    beat("no subscription", RebalanceTimeoutMs=60_000, TopicPartitions=[])
    beat("no partitions", RebalanceTimeoutMs=60_000, SubscribedTopicNames=["assigned"])
    beat("owns before it joins", **{**joining, "TopicPartitions": [{"TopicId": topic_id, "Partitions": [0]}]})
    beat("unknown assignor", ServerAssignor="nonsense", **joining)
    beat("bad regex", **{**joining, "SubscribedTopicRegex": "["})
    beat("empty instance", InstanceId="", **joining)
    beat("later epoch of nobody", epoch=3)
    joined = beat("joins", **joining)
    epoch = joined["MemberEpoch"]
    owned = [{"TopicId": topic_id, "Partitions": [0, 1]}]
    beat("has them", epoch=epoch, TopicPartitions=owned)
    beat("nothing new", epoch=epoch)
    beat("joins again", **joining)
    beat("unknown member", member="stranger", epoch=epoch)
    beat("epoch ahead", epoch=epoch + 5)
    for v in versions("ConsumerGroupDescribe"):
        answer = t.ask("ConsumerGroupDescribe", v, {"GroupIds": ["modern"]})
        for row in answer["Groups"][0]["Members"]:
            row["ClientHost"] = row["ClientHost"].lstrip("/")
        t.note(f"describe v{v}", answer)
    t.call("described as classic", "DescribeGroups", 6, {"Groups": ["modern"]})
    t.call("described as classic v5", "DescribeGroups", 5, {"Groups": ["modern"]})
    commit = lambda label, **more: t.call(label, "OffsetCommit", 9, commit_body("modern", "assigned", 1, **more))
    commit("commit", member=mine(), generation=epoch)
    commit("commit of an old epoch", member=mine(), generation=epoch - 1)
    commit("commit of a stranger", member="stranger", generation=epoch)
    commit("commit without a member")
    ask = lambda label, **more: t.call(label, "OffsetFetch", 9, {"Groups": [{"GroupId": "modern", "Topics": None, **more}]})
    ask("fetch", MemberId=mine(), MemberEpoch=epoch)
    ask("fetch of an old epoch", MemberId=mine(), MemberEpoch=epoch + 1)
    ask("fetch of a stranger", MemberId="stranger", MemberEpoch=epoch)
    ask("fetch without a member")
    t.call("deleted while live", "DeleteGroups", 2, {"GroupsNames": ["modern"]})
    beat("leaves", epoch=-1)
    beat("leaves again", epoch=-1)
    t.call("deleted", "DeleteGroups", 2, {"GroupsNames": ["modern"]})


SCENARIOS = [
    group_coordinator,
    group_classic_versions,
    group_join_mistakes,
    group_static_member,
    group_offsets,
    group_admin,
    group_consumer_protocol,
]

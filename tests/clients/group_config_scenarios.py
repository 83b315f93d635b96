"""What `compare` asks about settings of single groups: described, altered, listed, and in force. As in `scenarios`.

Kafka shows a change a moment after it answered, so a scenario asks until it does before it compares (`set_on`, `until`).
"""

import time

from group_scenarios import Consumer, await_group
from scenarios import APPEND, DELETE, SET, SUBTRACT, make_topic, set_on, versions

GROUP = 32
SESSION, HEARTBEAT = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"


def describe(t, label, name, keys=None, v=4, **more):
    resource = {"ResourceType": GROUP, "ResourceName": name, "ConfigurationKeys": keys}
    t.call(label, "DescribeConfigs", v, {"Resources": [resource], **more})


def alter(t, label, name, *configs, v=1, **more):
    configs = [{"Name": n, "ConfigOperation": o, "Value": value} for n, o, value in configs]
    resource = {"ResourceType": GROUP, "ResourceName": name, "Configs": configs}
    t.call(label, "IncrementalAlterConfigs", v, {"Resources": [resource], "ValidateOnly": False, **more})


def replace(t, label, name, *configs, v=2, **more):
    configs = [{"Name": n, "Value": value} for n, value in configs]
    resource = {"ResourceType": GROUP, "ResourceName": name, "Configs": configs}
    t.call(label, "AlterConfigs", v, {"Resources": [resource], "ValidateOnly": False, **more})


def has(t, label, name, session=None, heartbeat=None):
    t.note(label, set_on(t, GROUP, name, {SESSION: session, HEARTBEAT: heartbeat}))


def group_configs_described(t):
    for v in versions("DescribeConfigs"):
        describe(t, f"v{v}", "config-unset", v=v, IncludeSynonyms=True, IncludeDocumentation=True)
    describe(t, "no keys", "config-unset", [])
    describe(t, "some keys", "config-unset", [SESSION, "no.such.config"])
    describe(t, "no name", "")
    describe(t, "no name, some keys", "", [SESSION])
    describe(t, "name of many kinds", "a/b \u00e9\n*")
    alter(t, "set", "config-told", (SESSION, SET, "50000"), ("share.isolation.level", SET, "read_committed"))
    has(t, "after set", "config-told", session="50000")
    describe(t, "set, all", "config-told", IncludeSynonyms=True, IncludeDocumentation=True)
    describe(t, "set, without synonyms", "config-told", [SESSION, HEARTBEAT])
    describe(t, "another", "config-told-too", [SESSION, HEARTBEAT], IncludeSynonyms=True)


def group_configs_altered(t):
    g = "config-altered"
    for v in versions("IncrementalAlterConfigs"):
        alter(t, f"v{v}", g, (SESSION, SET, f"5000{v}"), v=v)
    has(t, "after set", g, session="50001")
    alter(t, "two at once", g, (SESSION, SET, "50002"), (HEARTBEAT, SET, "7000"))
    has(t, "after two", g, session="50002", heartbeat="7000")
    alter(t, "sign and spaces", g, (HEARTBEAT, SET, " +06000 "))
    has(t, "after sign and spaces", g, session="50002", heartbeat="6000")
    alter(t, "delete one", g, (SESSION, DELETE, None))
    alter(t, "delete what is not set", g, (SESSION, DELETE, None))
    alter(t, "delete what nobody knows", g, ("no.such.config", DELETE, None))
    has(t, "after delete", g, heartbeat="6000")
    for value in ("x", "", "0", "-1", "44999", "45000", "60000", "60001", "99999999999"):
        alter(t, f"session {value}", g, (SESSION, SET, value))
    for value in ("0", "4999", "5000", "15000", "15001"):
        alter(t, f"heartbeat {value}", g, (HEARTBEAT, SET, value))
    has(t, "after bounds", g, session="60000", heartbeat="15000")
    alter(t, "unknown config", g, ("no.such.config", SET, "1"))
    alter(t, "unknown config, bad value", g, ("no.such.config", SET, "1"), (SESSION, SET, "x"))
    alter(t, "key of the broker", g, ("group.consumer.session.timeout.ms", SET, "50000"))
    alter(t, "key of a topic", g, ("retention.ms", SET, "50000"))
    alter(t, "good and bad", g, (SESSION, SET, "50000"), (HEARTBEAT, SET, "x"))
    alter(t, "append", g, (SESSION, APPEND, "1"))
    alter(t, "subtract", g, (SESSION, SUBTRACT, "1"))
    alter(t, "append to what nobody knows", g, ("no.such.config", APPEND, "1"))
    alter(t, "operation 9", g, (SESSION, 9, "50000"))
    alter(t, "null value", g, (SESSION, SET, None))
    alter(t, "key twice", g, (SESSION, SET, "50000"), (SESSION, DELETE, None))
    alter(t, "validate only", g, (SESSION, SET, "50000"), ValidateOnly=True)
    alter(t, "validate only, bad", g, (SESSION, SET, "1"), ValidateOnly=True)
    alter(t, "nothing", g)
    has(t, "after refusals", g, session="60000", heartbeat="15000")
    for label, config in {
        "good": (SESSION, SET, "50000"),
        "bad": (SESSION, SET, "x"),
        "unknown": ("no.such.config", SET, "x"),
        "append": (SESSION, APPEND, "1"),
    }.items():
        alter(t, f"no name, {label}", "", config)
    alter(t, "no name, nothing", "")
    alter(t, "name of many kinds", "a/b \u00e9\n*", (SESSION, SET, "50000"))
    same = {"ResourceType": GROUP, "ResourceName": g, "Configs": [{"Name": SESSION, "ConfigOperation": SET, "Value": "50000"}]}
    t.call("twice", "IncrementalAlterConfigs", 1, {"Resources": [same, same], "ValidateOnly": False})
    for v in versions("AlterConfigs"):
        replace(t, f"replace v{v}", g, (SESSION, f"5100{v}"), v=v)
    has(t, "after replace", g, session="51002")
    replace(t, "replace, validate only", g, (HEARTBEAT, "7000"), ValidateOnly=True)
    replace(t, "replace, bad", g, (SESSION, "x"))
    replace(t, "replace, out of bounds", g, (SESSION, "1"))
    replace(t, "replace, unknown", g, ("no.such.config", "1"))
    replace(t, "replace, null", g, (SESSION, None))
    replace(t, "replace, no name", "", (SESSION, "50000"))
    has(t, "after bad replacements", g, session="51002")
    replace(t, "replace by nothing", g)
    has(t, "after nothing", g)


def group_configs_of_other_kinds(t):
    """Keys of share groups and streams groups."""
    values = {
        "share.session.timeout.ms": ("44999", "45000", "60000", "60001", "x"),
        "share.heartbeat.interval.ms": ("4999", "5000", "15000", "15001"),
        "share.record.lock.duration.ms": ("999", "14999", "15000", "60000", "60001"),
        "share.auto.offset.reset": (
            *("earliest", "latest", "none", "EARLIEST", "", "by_duration:", "by_duration:x", "by_duration:P1DT2H"),
            *("by_duration:pt0.5s", "by_duration:P1H", "by_duration:P", "by_duration:PT", "by_duration:-PT1H"),
        ),
        "share.isolation.level": ("read_committed", "read_uncommitted", "READ_COMMITTED", ""),
        "streams.session.timeout.ms": ("44999", "45000", "60000", "60001"),
        "streams.heartbeat.interval.ms": ("4999", "5000", "15000", "15001"),
        "streams.num.standby.replicas": ("-1", "0", "2", "3"),
    }
    for name, tried in values.items():
        for value in tried:
            alter(t, f"{name} = {value}", "config-of-others", (name, SET, value))
    t.note("after all", set_on(t, GROUP, "config-of-others", {
        "share.session.timeout.ms": "60000",
        "share.auto.offset.reset": "by_duration:pt0.5s",
        "streams.num.standby.replicas": "2",
    }))


def group_configs_listed(t):
    def listed(label, types, v=1, wanted=()):
        """The groups of this scenario, once they are `wanted` or not after a while."""
        deadline = time.monotonic() + 5
        while True:
            answer = t.ask("ListConfigResources", v, {"ResourceTypes": types} if v else {})
            found = [r for r in answer["ConfigResources"] if r["ResourceName"].startswith("config-listed")]
            found.sort(key=lambda r: r["ResourceName"])
            if [r["ResourceName"] for r in found] == list(wanted) or time.monotonic() > deadline:
                t.note(label, [answer["ErrorCode"], found])
                return
            time.sleep(0.05)

    listed("none", [GROUP])
    both = ["config-listed", "config-listed-too"]
    for name in both:
        alter(t, f"set on {name}", name, (HEARTBEAT, SET, "6000"))
    listed("both", [GROUP], wanted=both)
    listed("twice", [GROUP, GROUP], wanted=both)
    listed("with topics", [2, GROUP], wanted=both)
    listed("everything", [], wanted=both)
    listed("topics alone", [2])
    listed("version 0", None, v=0)
    alter(t, "nothing is set any more", "config-listed-too", (HEARTBEAT, DELETE, None))
    has(t, "after delete", "config-listed-too")
    listed("one", [GROUP], wanted=both[:1])


def group_configs_in_force(t):
    """Members of a consumer group are told the heartbeat interval of their group."""
    make_topic(t, "config-read")
    g = "config-in-force"
    await_group(t, g)
    alter(t, "before the group", g, (HEARTBEAT, SET, "7000"))
    has(t, "shown", g, heartbeat="7000")
    one, other = Consumer(t, g, "one"), Consumer(t, "config-of-nobody", "other")

    def until(label, interval):
        deadline = time.monotonic() + 5
        while (told := one.beat()["HeartbeatIntervalMs"]) != interval and time.monotonic() < deadline:
            time.sleep(0.05)
        t.note(label, told)

    t.note("joins", one.beat(["config-read"])["HeartbeatIntervalMs"])
    until("told", 7000)
    await_group(t, "config-of-nobody")
    t.note("another group", other.beat(["config-read"])["HeartbeatIntervalMs"])
    alter(t, "beside a member", g, (HEARTBEAT, SET, "8000"), (SESSION, SET, "60000"))
    until("told the new one", 8000)
    alter(t, "no longer", g, (HEARTBEAT, DELETE, None))
    until("told the broker's", 5000)
    # What is set outlives the group.
    alter(t, "once more", g, (HEARTBEAT, SET, "9000"))
    until("told once more", 9000)
    one.epoch = -1
    t.note("leaves", one.beat()["ErrorCode"])
    t.call("delete the group", "DeleteGroups", 2, {"GroupsNames": [g]})
    describe(t, "after the group", g, [SESSION, HEARTBEAT], IncludeSynonyms=True)


SCENARIOS = [
    group_configs_described,
    group_configs_altered,
    group_configs_of_other_kinds,
    group_configs_listed,
    group_configs_in_force,
]

"""What `compare` asks about settings of nodes: all of Kafka's keys, described and altered. As in `scenarios`.

The story: DescribeConfigs of a node told 72 keys where Kafka tells 316, fixed ones were "unknown" to AlterConfigs, and so
were those that do nothing here although a start with them was accepted.
"""

import time

from scenarios import APPEND, DELETE, SET, versions

NODE = 4
# The sources of what is set while a node runs.
DYNAMIC = (2, 3)

# Keys that are set, with values that are good and bad. What Kafka itself must not change is not set here.
VALUES = {
    # Fixed from the start on.
    "node.id": ["3"],
    "broker.id": ["3"],
    "broker.rack": ["here"],
    "process.roles": ["broker"],
    "advertised.listeners": ["PLAINTEXT://h:1"],
    "log.dirs": ["/x"],
    "num.partitions": ["3", "x"],
    "log.retention.hours": ["1"],
    "offsets.topic.num.partitions": ["1"],
    "delegation.token.secret.key": ["x"],
    "authorizer.class.name": ["x"],
    "unstable.api.versions.enable": ["true"],
    "producer.id.expiration.check.interval.ms": ["1"],
    "internal.metadata.log.segment.bytes": ["1"],
    # Changed at run time, with effect or without.
    "background.threads": ["12", "0", "x", " 11 ", "5000"],
    "num.io.threads": ["9", "-1"],
    "num.network.threads": ["4", "0"],
    "num.replica.fetchers": ["2"],
    "num.recovery.threads.per.data.dir": ["3", "0"],
    "log.cleaner.threads": ["2", "-1"],
    "log.cleaner.backoff.ms": ["1", "-1"],
    "log.cleaner.dedupe.buffer.size": ["134217729", "5"],
    "log.cleaner.io.buffer.load.factor": ["0.5", "7.5", "much"],
    "log.cleaner.io.buffer.size": ["1048576", "-1"],
    "log.cleaner.io.max.bytes.per.second": ["2.5E8", "1e3", "x"],
    "log.cleaner.min.cleanable.ratio": ["0.1", "1.5"],
    "log.cleaner.delete.retention.ms": ["5", "-1"],
    "log.cleanup.policy": ["compact", "compact,delete", "shrink"],
    "log.flush.interval.messages": ["5", "0"],
    "log.flush.interval.ms": ["5", "-1", "x"],
    "log.index.size.max.bytes": ["4", "3"],
    "log.message.timestamp.type": ["LogAppendTime", "logappendtime"],
    "log.preallocate": ["true", "TRUE", "yes"],
    "log.retention.bytes": ["5", "-9"],
    "log.retention.ms": ["5", "-7", "0"],
    "log.roll.ms": ["5", "0"],
    "log.roll.jitter.ms": ["0", "-1"],
    "log.segment.bytes": ["1048576", "1048575"],
    "message.max.bytes": ["5", "-1"],
    "producer.id.expiration.ms": ["5", "0"],
    "remote.fetch.max.wait.ms": ["5", "0"],
    "remote.log.reader.threads": ["11", "0"],
    "transaction.partition.verification.enable": ["false", "no"],
    "unclean.leader.election.enable": ["true", "x"],
    # For single nodes only.
    "sasl.kerberos.kinit.cmd": ["/bin/kinit"],
    "sasl.kerberos.min.time.before.relogin": ["5", "x"],
    "sasl.kerberos.principal.to.local.rules": ["DEFAULT,x"],
    "sasl.kerberos.ticket.renew.jitter": ["0.5", "z"],
    "sasl.login.refresh.buffer.seconds": ["5", "40000"],
    # What somebody would rely on.
    "listeners": ["x"],
    "listener.security.protocol.map": ["A:B"],
    "max.connections": ["5", "-1"],
    "max.connections.per.ip": ["5", "2147483647"],
    "max.connection.creation.rate": ["5"],
    "principal.builder.class": ["no.such.Class"],
    "sasl.enabled.mechanisms": ["PLAIN"],
    "ssl.client.auth": ["required", "perhaps"],
    "ssl.keystore.location": ["/x"],
    "ssl.keystore.password": ["x"],
    "listener.name.plaintext.max.connections": ["5"],
    # Nobody knows them.
    "no.such.config": ["5", ""],
    "retention.ms": ["5"],
}


def describe(t, label, name, keys=None, v=4, **more):
    resource = {"ResourceType": NODE, "ResourceName": name, "ConfigurationKeys": keys}
    return t.call(label, "DescribeConfigs", v, {"Resources": [resource], **more})


def alter(t, label, name, *configs):
    configs = [{"Name": n, "ConfigOperation": o, "Value": value} for n, o, value in configs]
    resource = {"ResourceType": NODE, "ResourceName": name, "Configs": configs}
    return t.call(label, "IncrementalAlterConfigs", 1, {"Resources": [resource], "ValidateOnly": False})


def await_change(t, name, key, is_set):
    """Kafka shows a change a moment after it answered."""
    resource = {"ResourceType": NODE, "ResourceName": name, "ConfigurationKeys": [key]}
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        rows = t.ask("DescribeConfigs", 4, {"Resources": [resource]})["Results"][0]["Configs"]
        if any(row["ConfigSource"] in DYNAMIC for row in rows) == is_set:
            return
        time.sleep(0.02)


def delete(t, name, key):
    configs = [{"Name": key, "ConfigOperation": DELETE, "Value": None}]
    resource = {"ResourceType": NODE, "ResourceName": name, "Configs": configs}
    t.ask("IncrementalAlterConfigs", 1, {"Resources": [resource], "ValidateOnly": False})
    await_change(t, name, key, is_set=False)


def broker_configs_described(t):
    node = str(t.node_id())
    for v in versions("DescribeConfigs"):
        describe(t, f"v{v}", node, v=v, IncludeSynonyms=True, IncludeDocumentation=True)
    describe(t, "some keys", node, ["node.id", "no.such.config", "ssl.key.password", "unstable.api.versions.enable"])
    describe(t, "all nodes, some keys", "", ["node.id", "num.io.threads"])


def broker_configs_altered(t):
    node = str(t.node_id())
    for name, label in ((node, "one"), ("", "all")):
        for key, values in VALUES.items():
            for value in values:
                step = f"{label}, {key} {value}"
                answer = alter(t, step, name, (key, SET, value))
                if answer["Responses"][0]["ErrorCode"] == 0:
                    await_change(t, name, key, is_set=True)
                    describe(t, f"{step}, told", name, [key], IncludeSynonyms=True)
                    delete(t, name, key)
        alter(t, f"{label}, two fixed", name, ("num.partitions", SET, "3"), ("node.id", SET, "3"))
        alter(t, f"{label}, fixed and unknown", name, ("no.such.config", SET, "3"), ("node.id", SET, "3"))
        alter(t, f"{label}, good and bad", name, ("num.io.threads", SET, "9"), ("background.threads", SET, "x"))
        alter(t, f"{label}, delete fixed", name, ("node.id", DELETE, None))
        alter(t, f"{label}, append to a fixed one", name, ("node.id", APPEND, "x"))
        rules = "sasl.kerberos.principal.to.local.rules"
        answer = alter(t, f"{label}, append", name, (rules, APPEND, "x"))
        if answer["Responses"][0]["ErrorCode"] == 0:
            await_change(t, name, rules, is_set=True)
            describe(t, f"{label}, appended", name, [rules], IncludeSynonyms=True)
            delete(t, name, rules)


SCENARIOS = [broker_configs_described, broker_configs_altered]

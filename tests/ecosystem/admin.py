"""The admin clients of librdkafka and of kafka-python, through everything they ask of a broker of this kind."""

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, ConsumerGroupType, KafkaError, KafkaException
from confluent_kafka import IsolationLevel, TopicCollection, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from groups import COMMANDS
from world import SESSION_MS, expect, expect_equal, wait_until


def scenarios(_full):
    return [("admin librdkafka", librdkafka), ("admin kafka-python", kafka_python)]


def refused(future, code, what):
    """The call fails with this error of Kafka's, and no other."""
    try:
        future.result(30)
    except KafkaException as failure:
        expect_equal(failure.args[0].code(), code, what)
    else:
        expect(False, f"{what} was not refused")


def start_member(world, group, topic, name="member"):
    arguments = [world.bootstrap, group, topic, name, "range", str(SESSION_MS)]
    return world.spawn([*COMMANDS["confluent"], *arguments], "members-admin")


def librdkafka(world):
    admin = world.admin()
    cluster = admin.describe_cluster().result(30)
    expect(cluster.cluster_id and cluster.nodes and cluster.controller, f"cluster {cluster}")

    # Topics.
    admin.create_topics([NewTopic("rd-admin", 2, 1, config={"retention.ms": "7200000"})])["rd-admin"].result(30)
    refused(admin.create_topics([NewTopic("rd-admin", 2, 1)])["rd-admin"], KafkaError.TOPIC_ALREADY_EXISTS, "a second creation")
    admin.create_topics([NewTopic("rd-validated", 1, 1)], validate_only=True)["rd-validated"].result(30)
    described = admin.describe_topics(TopicCollection(["rd-admin"]))["rd-admin"].result(30)
    expect_equal(len(described.partitions), 2, "partitions")
    admin.create_partitions([NewPartitions("rd-admin", 3)])["rd-admin"].result(30)
    wait_until(lambda: len(admin.list_topics("rd-admin", 10).topics["rd-admin"].partitions) == 3, "three partitions", 10)
    refused(admin.create_partitions([NewPartitions("rd-admin", 2)])["rd-admin"], KafkaError.INVALID_PARTITIONS, "fewer partitions")
    expect("rd-validated" not in admin.list_topics(timeout=10).topics, "validate_only creates nothing")

    # Configurations.
    resource = ConfigResource(ResourceType.TOPIC, "rd-admin")
    config = admin.describe_configs([resource])[resource].result(30)
    expect_equal(config["retention.ms"].value, "7200000", "retention.ms")
    change = ConfigResource(
        ResourceType.TOPIC,
        "rd-admin",
        incremental_configs=[
            ConfigEntry("retention.ms", "3600000", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET),
        ],
    )
    admin.incremental_alter_configs([change])[change].result(30)
    value = lambda key: admin.describe_configs([resource])[resource].result(30)[key].value
    wait_until(lambda: value("retention.ms") == "3600000", "retention.ms is changed", 10)
    expect_equal(value("max.message.bytes"), "2000", "max.message.bytes")
    broken = ConfigResource(
        ResourceType.TOPIC,
        "rd-admin",
        incremental_configs=[ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)],
    )
    refused(admin.incremental_alter_configs([broken])[broken], KafkaError.INVALID_CONFIG, "retention.ms=soon")
    expect_equal(value("retention.ms"), "3600000", "retention.ms after the refusal")
    node = ConfigResource(ResourceType.BROKER, str(next(iter(cluster.nodes)).id))
    expect(admin.describe_configs([node])[node].result(30), "the broker's configuration")

    # Offsets, and records deleted below one.
    world.produce("rd-admin", [(0, None, f"m{i}") for i in range(10)])
    first, second = TopicPartition("rd-admin", 0), TopicPartition("rd-admin", 1)
    ask = {first: OffsetSpec.latest(), second: OffsetSpec.earliest()}
    found = admin.list_offsets(ask, isolation_level=IsolationLevel.READ_UNCOMMITTED)
    expect_equal([found[first].result(30).offset, found[second].result(30).offset], [10, 0], "list_offsets")
    low = TopicPartition("rd-admin", 0, 4)
    expect_equal(admin.delete_records([low])[low].result(30).low_watermark, 4, "low watermark")

    # Groups: with a member, then without.
    group = "rd-admin-group"
    member = start_member(world, group, "rd-admin")
    # Before the first group there is no coordinator, and admin clients do not wait for one as members do.
    wait_until(lambda: world.committed(group, "rd-admin", 3).get(0) == "10", "the member commits", 30)
    state = lambda: admin.describe_consumer_groups([group])[group].result(30)

    def settled():
        told = state()
        return told.state == ConsumerGroupState.STABLE and told.members and told.members[0].assignment.topic_partitions and told

    told = wait_until(settled, "the member's group is stable", 30)
    expect_equal((len(told.members), told.members[0].client_id, told.is_simple_consumer_group), (1, "member", False), "members")
    expect_equal(sorted(p.partition for p in told.members[0].assignment.topic_partitions), [0, 1, 2], "assignment")
    expect_equal((told.partition_assignor, told.type), ("range", ConsumerGroupType.CLASSIC), "assignor and type")
    listed = admin.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(30)
    expect(not listed.errors and group in {g.group_id for g in listed.valid}, f"listed: {listed.valid} {listed.errors}")
    listed = admin.list_consumer_groups(types={ConsumerGroupType.CONSUMER}).result(30)
    expect(group not in {g.group_id for g in listed.valid}, "not listed as the other type")

    def offsets():
        query = ConsumerGroupTopicPartitions(group)
        told = admin.list_consumer_group_offsets([query])[group].result(30)
        return {p.partition: p.offset for p in told.topic_partitions if p.offset >= 0}

    wait_until(lambda: offsets().get(0) == 10, "the commit of the member is told", 20)
    refused(admin.delete_consumer_groups([group])[group], KafkaError.NON_EMPTY_GROUP, "the deletion of a group with a member")
    change = ConsumerGroupTopicPartitions(group, [TopicPartition("rd-admin", 0, 6)])
    # librdkafka gives the refusal of a partition in the partition.
    told = admin.alter_consumer_group_offsets([change])[group]
    refused_or_told = lambda: [p.error.code() for p in told.result(30).topic_partitions if p.error]
    expect_equal(refused_or_told(), [KafkaError.UNKNOWN_MEMBER_ID], "offsets altered under a member")
    expect_equal(world.end(member), 0, "exit status of the member")
    wait_until(lambda: state().state == ConsumerGroupState.EMPTY, "the group is empty", 15)
    expect_equal([p.error for p in admin.alter_consumer_group_offsets([change])[group].result(30).topic_partitions], [None], "altered")
    expect_equal(offsets(), {0: 6}, "altered offsets")
    admin.delete_consumer_groups([group])[group].result(30)
    refused(admin.delete_consumer_groups([group])[group], KafkaError.GROUP_ID_NOT_FOUND, "a second deletion")

    admin.delete_topics(["rd-admin"])["rd-admin"].result(30)
    wait_until(lambda: "rd-admin" not in admin.list_topics(timeout=10).topics, "the topic is gone", 10)
    refused(admin.delete_topics(["rd-admin"])["rd-admin"], KafkaError.UNKNOWN_TOPIC_OR_PART, "a second deletion")


def kafka_python(world):
    from kafka import TopicPartition as Partition
    from kafka.admin import ConfigResource as Resource
    from kafka.admin import ConfigResourceType, KafkaAdminClient
    from kafka.admin import NewPartitions as MorePartitions
    from kafka.admin import NewTopic as Topic
    from kafka.errors import GroupIdNotFoundError, NonEmptyGroupError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

    def raises(error, call, what):
        try:
            call()
        except error:
            return
        expect(False, f"{what} was not refused")

    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    try:
        cluster = admin.describe_cluster()
        expect(cluster["brokers"] and cluster["cluster_id"], f"cluster {cluster}")
        topic = Topic("py-admin", num_partitions=2, replication_factor=1, topic_configs={"retention.ms": "7200000"})
        admin.create_topics([topic])
        raises(TopicAlreadyExistsError, lambda: admin.create_topics([topic]), "a second creation")
        expect("py-admin" in admin.list_topics(), "listed")
        admin.create_partitions({"py-admin": MorePartitions(3)})
        count = lambda: len(admin.describe_topics(["py-admin"])[0]["partitions"])
        wait_until(lambda: count() == 3, "three partitions", 10)

        def value(key):
            resource = Resource(ConfigResourceType.TOPIC, "py-admin")
            for answer in admin.describe_configs([resource]):
                for entry in answer.resources[0][4]:
                    if entry[0] == key:
                        return entry[1]
            return None

        expect_equal(value("retention.ms"), "7200000", "retention.ms")
        admin.alter_configs([Resource(ConfigResourceType.TOPIC, "py-admin", {"max.message.bytes": "2000"})])
        wait_until(lambda: value("max.message.bytes") == "2000", "max.message.bytes is changed", 10)
        # The old form of the request replaces everything.
        expect_equal(value("retention.ms"), "604800000", "retention.ms is the default again")

        world.produce("py-admin", [(0, None, f"m{i}") for i in range(10)])
        deleted = admin.delete_records({Partition("py-admin", 0): 4})
        expect_equal(deleted[Partition("py-admin", 0)]["low_watermark"], 4, "low watermark")

        group = "py-admin-group"
        member = start_member(world, group, "py-admin")

        wait_until(lambda: world.committed(group, "py-admin", 3).get(0) == "10", "the member commits", 30)

        def settled():
            told = admin.describe_consumer_groups([group])[0]
            return told.state == "Stable" and told

        told = wait_until(settled, "the member's group is stable", 30)
        expect_equal((told.protocol_type, told.protocol, len(told.members)), ("consumer", "range", 1), "description")
        assignment = told.members[0].member_assignment.assignment
        expect_equal([(topic, sorted(ps)) for topic, ps in assignment], [("py-admin", [0, 1, 2])], "assignment")
        expect((group, "consumer") in [tuple(row[:2]) for row in admin.list_consumer_groups()], "listed")
        offsets = lambda: {p.partition: told.offset for p, told in admin.list_consumer_group_offsets(group).items()}
        wait_until(lambda: offsets().get(0) == 10, "the commit of the member is told", 20)
        outcome = admin.delete_consumer_groups([group])
        expect_equal([error for _, error in outcome], [NonEmptyGroupError], "the deletion of a group with a member")
        expect_equal(world.end(member), 0, "exit status of the member")
        wait_until(lambda: admin.describe_consumer_groups([group])[0].state == "Empty", "the group is empty", 15)
        outcome = admin.delete_consumer_groups([group])
        expect(not any(getattr(error, "errno", 0) for _, error in outcome), f"deletion: {outcome}")
        outcome = admin.delete_consumer_groups([group])
        expect_equal([error for _, error in outcome], [GroupIdNotFoundError], "a second deletion")

        admin.delete_topics(["py-admin"])
        wait_until(lambda: "py-admin" not in admin.list_topics(), "the topic is gone", 10)
        raises(UnknownTopicOrPartitionError, lambda: admin.delete_topics(["py-admin"]), "a second deletion")
    finally:
        admin.close()

"""Topics that come and go: made, written, read, grown, altered, deleted, and made again under the same name."""

import random
import threading

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType

import records
from checks import Violated
from readers import Place, Reader

CREATED = "a topic that was created serves all its partitions"
GONE = "a topic that was deleted is gone, and its name begins anew"
ALTERED = "altered configurations and added partitions are as told"
NAMES = [CREATED, GONE, ALTERED]

# Fewer names than lives: most topics are made under a name that was used before.
TOPIC_NAMES = ["churn-a", "churn-b", "churn-c"]
RECORDS_MAX = 2000
# What the broker may say to a change while it has no space or has only begun to serve; asked again.
PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_CONTROLLER,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
}


def change(stage, act, what, done_already=(), tries=0):
    """Asks for a change until it is made. An error of `done_already` means that an earlier try was, whose answer was lost;
    `tries` is how many there were before.
    """
    last, tries = [None], [tries]

    def ask():
        tries[0] += 1
        try:
            act()
            return True
        except (KafkaException, TimeoutError) as failure:
            last[0] = failure
            code = failure.args[0].code() if isinstance(failure, KafkaException) else KafkaError._TIMED_OUT
            if code in done_already and tries[0] > 1:
                return True
            if code not in PASSING:
                raise Violated(f"{what}: {failure}") from None
            return False

    stage.wait_until(ask, lambda: f"{what}: {last[0]}", pause=0.3)


def create_topic(stage, admin, name, partitions, config=None, assignment=None):
    where = {"replication_factor": 1} if assignment is None else {"replica_assignment": assignment}
    topic = NewTopic(name, num_partitions=partitions, config=config or {}, **where)
    act = lambda: admin.create_topics([topic], request_timeout=10)[name].result(15)
    change(stage, act, f"create {name}", [KafkaError.TOPIC_ALREADY_EXISTS])


def delete_topic(stage, admin, name, tries=0):
    act = lambda: admin.delete_topics([name], request_timeout=10)[name].result(15)
    change(stage, act, f"delete {name}", [KafkaError.UNKNOWN_TOPIC_OR_PART], tries)


class Churn(threading.Thread):
    def __init__(self, stage, checks, ledger, filling, seed):
        super().__init__(name="churn", daemon=True)
        checks.declare(NAMES)
        self.stage, self.checks, self.ledger, self.filling = stage, checks, ledger, filling
        self.random = random.Random(f"{seed} churn")
        self.admin = stage.admin()
        self.stopping = threading.Event()
        self.topics = 0

    def run(self):
        while not self.stopping.wait(0.2):
            name = self.random.choice(TOPIC_NAMES)
            try:
                self.live(name)
            except Violated as failure:
                if self.stage.ending.is_set():
                    return
                self.checks.violated(CREATED, str(failure))
                self.clear(name)

    def live(self, name):
        """One life of a topic, from its creation to its end."""
        life = self.ledger.new_life(name)
        partitions = self.random.randrange(1, 7)
        flush = self.random.choice(["1", str((1 << 63) - 1)])
        create_topic(self.stage, self.admin, name, partitions, {"flush.messages": flush, "retention.ms": "-1"})
        self.topics += 1
        self.write(name, life, partitions)
        if self.random.random() < 0.5:
            partitions = self.grow(name, life, partitions)
        if self.random.random() < 0.5:
            self.alter(name)
        self.check(name, life, partitions)
        if self.stopping.is_set():
            return
        delete_topic(self.stage, self.admin, name)
        self.ledger.end_life(life)
        self.expect_gone(name)

    def clear(self, name):
        """What state the topic is in is unknown."""
        try:
            delete_topic(self.stage, self.admin, name)
        except Violated as failure:
            if "UNKNOWN_TOPIC" not in str(failure):
                self.checks.violated(GONE, f"{name} cannot be deleted: {failure}")

    def write(self, name, life, partitions):
        """Every partition gets records, and all are acknowledged."""
        failures = []
        producer = Producer(
            {
                "bootstrap.servers": self.stage.bootstrap,
                "enable.idempotence": self.random.random() < 0.7,
                "compression.type": self.random.choice(["none", "gzip", "snappy", "lz4", "zstd"]),
                "linger.ms": 5,
                "message.timeout.ms": 600_000,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )

        def delivered(sum_):
            def note(error, message):
                if error is not None:
                    failures.append(f"partition {message.partition()}: {error}")
                elif message.offset() is not None:
                    log = self.ledger.log(life, message.partition())
                    wrong = log.on_acknowledged(message.offset(), sum_, message.timestamp()[1])
                    if wrong:
                        failures.append(f"partition {message.partition()}: {wrong}")

            return note

        for number in range(self.random.randrange(partitions, RECORDS_MAX)):
            data = records.value(life, 0, number, self.filling.cut(self.random, self.random.randrange(1, 600)))
            producer.produce(name, value=data, partition=number % partitions, on_delivery=delivered(records.checksum(None, data)))
        self.stage.wait_until(lambda: producer.flush(0.5) == 0, f"{name} with {partitions} partitions is written", pause=0)
        self.checks.expect(CREATED, not failures, lambda: f"{name}: {failures[:3]}")

    def grow(self, name, life, partitions):
        more = partitions + self.random.randrange(1, 4)
        act = lambda: self.admin.create_partitions([NewPartitions(name, more)], request_timeout=10)[name].result(15)
        # A second try of one that was done says INVALID_PARTITIONS.
        change(self.stage, act, f"{name} grows from {partitions} to {more}", [KafkaError.INVALID_PARTITIONS])
        self.write(name, life, more)
        self.checks.held(ALTERED)
        return more

    def alter(self, name):
        wanted = str(self.random.randrange(1, 1 << 40))
        entry = ConfigEntry("retention.bytes", wanted, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        act = lambda: self.admin.incremental_alter_configs([resource], request_timeout=10)[resource].result(15)
        change(self.stage, act, f"alter {name}")
        # It is at home on one node and told to the others a moment later.
        asked = ConfigResource(ResourceType.TOPIC, name)
        told = []

        def ask():
            try:
                told[:] = [self.admin.describe_configs([asked], request_timeout=10)[asked].result(15)["retention.bytes"].value]
            except (KafkaException, TimeoutError) as failure:
                told[:] = [failure]
            return told == [wanted]

        try:
            self.stage.wait_until(ask, lambda: f"{name}: retention.bytes {told}, set to {wanted}")
            self.checks.held(ALTERED)
        except Violated as failure:
            self.checks.violated(ALTERED, str(failure))

    def check(self, name, life, partitions):
        """Everything is there; nothing of an earlier life is."""
        reader = Reader(self.stage, self.checks, self.ledger)
        try:
            for partition in range(partitions):
                log = self.ledger.log(life, partition)
                place = Place(name, life, partition, ())
                end = reader.read_through(place)
                unread = log.counts()[2]
                text = lambda: f"{name}-{partition}: {unread} acknowledged records are not there, it ends at {end} of {log.end}"
                self.checks.expect(CREATED, unread == 0 or self.stage.ending.is_set(), text)
        finally:
            reader.close()

    def expect_gone(self, name):
        def is_gone():
            try:
                topic = self.admin.list_topics(timeout=10).topics.get(name)
            except KafkaException:
                return False
            return topic is None

        try:
            self.stage.wait_until(is_gone, f"{name} is no longer listed after its deletion")
            self.checks.held(GONE)
        except Violated as failure:
            self.checks.violated(GONE, str(failure))

    def finish(self):
        self.stopping.set()
        self.join()


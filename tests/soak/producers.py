"""Producers at a steady rate, each with its own acks, codec and topic. Every answer goes into the ledger."""

import random
import threading
import time

from confluent_kafka import KafkaException, Producer

import records

ACKNOWLEDGED = "an acknowledgement names an offset that is free"
DELIVERED = "no record is given up: each is acknowledged in the end"
PROGRESS = "producers go on after every disturbance"

# Records that one producer has on the way; it bounds what a crash leaves unanswered.
QUEUED_RECORDS_MAX = 2000
# Longer than all that is done to the broker on the way: a record given up is one that could have been delivered.
DELIVERY_MS = 600_000


class Load:
    def __init__(self, topic, rate, value_bytes, acks="all", idempotent=True, codec="none", keyed=False):
        self.topic, self.rate, self.value_bytes = topic, rate, value_bytes
        self.acks, self.idempotent, self.codec, self.keyed = acks, idempotent, codec, keyed

    def __str__(self):
        return f"{self.topic} acks={self.acks} idempotence={self.idempotent} {self.codec} {'keyed' if self.keyed else 'spread'}"


class LoadProducer(threading.Thread):
    def __init__(self, stage, checks, ledger, filling, seed, index, load, life, partitions):
        super().__init__(name=f"producer {index}", daemon=True)
        self.stage, self.checks, self.ledger, self.filling = stage, checks, ledger, filling
        self.index, self.load, self.life, self.partitions = index, load, life, partitions
        self.random = random.Random(f"{seed} producer {index}")
        self.stopping = threading.Event()
        self.acknowledged = 0
        self.sent = 0
        self.left = None  # records that nothing was heard of in the end
        self.given_up = False
        self.producer = Producer(
            {
                "bootstrap.servers": stage.bootstrap,
                "acks": load.acks,
                "enable.idempotence": load.idempotent,
                "compression.type": load.codec,
                "linger.ms": 5,
                "queue.buffering.max.messages": QUEUED_RECORDS_MAX,
                "message.timeout.ms": DELIVERY_MS,
                "request.timeout.ms": 20_000,
                "socket.timeout.ms": 30_000,
                "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )

    def run(self):
        number, due = 0, time.monotonic()
        while not self.stopping.is_set():
            now = time.monotonic()
            # What could not be sent in an outage is not made up for.
            due = max(due, now - 1.0)
            while due <= now and len(self.producer) < QUEUED_RECORDS_MAX - 100:
                self._send(number)
                number += 1
                due += 1 / self.load.rate
            self.producer.poll(0.01)
        self.left = self.producer.flush(DELIVERY_MS / 1000)

    def _send(self, number):
        load = self.load
        length = self.random.randrange(load.value_bytes // 2, load.value_bytes * 3 // 2)
        data = records.value(self.life, self.index, number, self.filling.cut(self.random, length))
        key = str(self.random.randrange(1000)).encode() if load.keyed else None
        where = {} if load.keyed else {"partition": number % self.partitions}
        sum_ = records.checksum(key, data)
        try:
            self.producer.produce(load.topic, key=key, value=data, on_delivery=lambda e, m: self._on_delivery(e, m, sum_), **where)
        except (BufferError, KafkaException) as failure:
            self.checks.violated(DELIVERED, f"{load}: record {number} is not taken: {failure}")
        self.sent += 1

    def _on_delivery(self, error, message, sum_):
        if self.given_up:
            return
        if error is not None:
            self.checks.violated(DELIVERED, f"{self.load}, partition {message.partition()}: {error}")
            return
        self.checks.held(DELIVERED)
        self.acknowledged += 1
        if message.offset() is None:
            # Sent again after many others were: the broker knows that it has the record, and no longer where.
            return
        log = self.ledger.log(self.life, message.partition())
        wrong = log.on_acknowledged(message.offset(), sum_, message.timestamp()[1])
        self.checks.expect(ACKNOWLEDGED, wrong is None, lambda: f"{self.load}, partition {message.partition()}: {wrong}")

    def give_up(self):
        """The soak ends before its time: what is on the way is not judged."""
        self.given_up = True
        self.stopping.set()
        self.producer.purge()

    def finish(self):
        self.stopping.set()
        self.join()
        if self.left:
            self.checks.violated(DELIVERED, f"{self.load}: {self.left} records are neither acknowledged nor refused")


def expect_progress(stage, checks, producers, what):
    """Each producer gets acknowledgements from now on."""
    before = [producer.acknowledged for producer in producers]

    def stuck():
        return [str(p.load) for p, count in zip(producers, before) if p.acknowledged <= count]

    try:
        stage.wait_until(lambda: not stuck(), what)
    except Exception as failure:
        checks.violated(PROGRESS, f"{failure}: no acknowledgement for {stuck()}")
    else:
        checks.held(PROGRESS)

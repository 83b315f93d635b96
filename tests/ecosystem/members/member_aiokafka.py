"""A group member of aiokafka; README.md says what it prints."""

import asyncio
import logging
import os
import signal
import sys

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

bootstrap, group, topic, name, protocol, session_ms = sys.argv[1:]
assert protocol == "range", "aiokafka knows eager groups only"
logging.basicConfig(level=logging.ERROR)


def say(event):
    os.write(1, f"{name} {event}\n".encode())


def listed(partitions):
    return ",".join(str(p) for p in sorted(p.partition for p in partitions)) or "-"


class Member(ConsumerRebalanceListener):
    def __init__(self):
        self.handled = {}
        # Rebalances run beside the loop: whoever holds this has no batch half done.
        self.whole = asyncio.Lock()
        self.leaving = asyncio.Event()

    async def run(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.leaving.set)
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            client_id=name,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(session_ms),
            heartbeat_interval_ms=500,
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        self.consumer.subscribe([topic], listener=self)
        await self.consumer.start()
        while not self.leaving.is_set():
            # Gives nothing while a rebalance goes on, so the lock may not be held yet. From what it gives to the lock there
            # is no point at which a rebalance could begin.
            batches = await self.consumer.getmany(timeout_ms=200)
            async with self.whole:
                for partition, records in batches.items():
                    for record in records:
                        say(f"record {record.partition} {record.offset} {record.value.decode()}")
                        self.handled[TopicPartition(topic, record.partition)] = record.offset + 1
                await self.commit()
        async with self.whole:
            await self.commit()
        await self.consumer.stop()
        say("closed")

    async def commit(self):
        while self.handled:
            try:
                await self.consumer.commit(dict(self.handled))
                for partition, offset in self.handled.items():
                    say(f"committed {partition.partition} {offset}")
                self.handled.clear()
            except (CommitFailedError, IllegalStateError) as failure:
                say(f"trouble commit: {failure!r}")
                self.handled.clear()
            except KafkaError as failure:
                say(f"trouble commit: {failure!r}")
                await asyncio.sleep(0.1)

    async def on_partitions_revoked(self, revoked):
        async with self.whole:
            await self.commit()
            if revoked:
                say(f"revoked {listed(revoked)}")

    async def on_partitions_assigned(self, assigned):
        say(f"assigned {listed(assigned)}")


asyncio.run(Member().run())

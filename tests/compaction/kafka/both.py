"""Gives a real Apache Kafka and Corelane the same records, lets both compact them, and compares what their consumers read.

Started by `../judge --broker`. Below Kafka's active segments every record with a value must be the same, as offset, key,
value, time and headers. So must tombstones where they are kept for a day; where they may go after a second, it depends on the
moment of each broker's passes which are gone, and none may be there that Kafka never had. Then Corelane is killed, started
again, and must give the same as before.
"""

import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "clients"))

import brokers
from capture import Logs

SETTINGS = ["log.cleaner.backoff.ms=100"]
TOPICS = ["plain", "idempotent", "stamped", "aged", "ends"]
# The stamped topic's segments end by the broker's clock, which nobody can make the same.
COMPARED = ["plain", "idempotent", "aged", "ends"]
os.environ["CORELANE_STREAM"] = "common"


def stream(broker, *arguments):
    program = os.path.join(HERE, "CompactionStream.java")
    command = brokers.java_command(program, broker.bootstrap, *arguments)
    return subprocess.run(command, check=True, timeout=180, capture_output=True, text=True).stdout


def dump(broker, topic):
    """By offset: the rest of a line."""
    rows = (line.split(" ", 1) for line in stream(broker, "dump", topic).splitlines())
    return {int(offset): rest for offset, rest in rows}


def is_tombstone(rest):
    return rest.split(" ")[2] == "-"


class Both:
    def __init__(self, batches):
        self.batches = batches
        self.kafka = brokers.Kafka([*SETTINGS, "log.segment.delete.delay.ms=60000"])
        self.ours = brokers.Corelane(settings=SETTINGS)
        self.logs = Logs(self.kafka)

    def run(self):
        try:
            for broker in (self.kafka, self.ours):
                broker.start()
                stream(broker, "create")
            for number in (1, 2, 3):
                self.one_round(number)
            self.ours.kill()
            before = self.read
            self.ours.start()
            after = {topic: dump(self.ours, topic) for topic in TOPICS}
            if before != after:
                raise SystemExit("corelane reads otherwise after kill -9")
            print("the same after kill -9")
        finally:
            self.kafka.destroy()
            self.ours.destroy()

    def one_round(self, number):
        for broker in (self.kafka, self.ours):
            stream(broker, "produce", str(number), str(self.batches))
        for broker in (self.kafka, self.ours):
            stream(broker, "clean", "0")
        bases = {topic: self.logs.segments(topic)[-1][0] for topic in TOPICS}
        self.wait_for_kafka(bases)
        self.wait_for_ours()
        # Horizons of a second are over at the next round.
        time.sleep(1.5)
        self.read = {topic: dump(self.ours, topic) for topic in TOPICS}
        for topic in COMPARED:
            self.compare(number, topic, bases[topic])

    def wait_for_kafka(self, bases, seconds=60):
        deadline = time.monotonic() + seconds
        # Of a log with one segment nothing is cleaned.
        while any(self.logs.clean_ends().get(topic, 0) != bases[topic] for topic in TOPICS):
            if time.monotonic() > deadline:
                raise SystemExit(f"Kafka is not clean: {self.logs.clean_ends()} of {bases}\n{self.kafka.log_tail()}")
            time.sleep(0.2)

    def wait_for_ours(self, seconds=60):
        """Until there was no pass for three seconds: the open segment ends after four looks of a tenth of a second."""
        deadline, passes, since = time.monotonic() + seconds, 0, time.monotonic()
        while time.monotonic() - since < 3:
            now = self.ours.metric("corelane_compaction_passes")
            if now != passes:
                passes, since = now, time.monotonic()
            if time.monotonic() > deadline:
                raise SystemExit("corelane does not come to rest")
            time.sleep(0.2)
        if passes == 0 or self.ours.metric("corelane_uncompactable_partitions"):
            raise SystemExit(f"corelane compacted nothing, or gave up\n{self.ours.log_tail()}")

    def compare(self, number, topic, base):
        kafkas = {offset: rest for offset, rest in dump(self.kafka, topic).items() if offset < base}
        ours = {offset: rest for offset, rest in self.read[topic].items() if offset < base}
        if topic != "idempotent":
            differing = {offset: (kafkas.get(offset), ours.get(offset)) for offset in kafkas.keys() ^ ours.keys()}
            wrong = {offset: pair for offset, pair in differing.items() if not is_tombstone(pair[0] or pair[1])}
            wrong |= {offset: (kafkas[offset], ours[offset]) for offset in kafkas.keys() & ours.keys()
                      if kafkas[offset] != ours[offset]}
        else:
            differing, wrong = {}, {offset: (kafkas.get(offset), ours.get(offset))
                                    for offset in kafkas.keys() | ours.keys()
                                    if kafkas.get(offset) != ours.get(offset)}
        if wrong:
            first = dict(sorted(wrong.items())[:3])
            raise SystemExit(f"round {number}, {topic}: Kafka and Corelane differ in {len(wrong)} records below {base}, "
                             f"of which the first: {first}")
        tombstones = sum(is_tombstone(rest) for rest in ours.values())
        print(f"round {number}, {topic}: the same {len(kafkas.keys() & ours.keys())} records below {base}, of which "
              f"{tombstones} tombstones; {len(differing)} tombstones at one broker only")


if __name__ == "__main__":
    Both(int(sys.argv[1])).run()

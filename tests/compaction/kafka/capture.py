"""Lets a real Apache Kafka compact what its own clients wrote, and keeps each log before and after each pass.

Started by `../judge`. In DIRECTORY it leaves, for each topic and pass, the records of all segments one after the other in
`TOPIC-PASS.before` and `TOPIC-PASS.after`, and what else there is to know in `facts.txt`: a line each, words of name=value.
"""

import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "clients"))

import brokers
import wire

SETTINGS = [
    "log.cleaner.backoff.ms=100",
    "log.cleaner.dedupe.buffer.size=4194304",
    # What compaction replaced is not of interest, but must not be in the way either.
    "log.segment.delete.delay.ms=60000",
]
TOPICS = {
    "plain": {"delete_retention_ms": 1000, "segment_ms": 604800000},
    "idempotent": {"delete_retention_ms": 86400000, "segment_ms": 604800000},
    "stamped": {"delete_retention_ms": 1000, "segment_ms": 604800000},
    "aged": {"delete_retention_ms": 1000, "segment_ms": 20000},
    "ends": {"delete_retention_ms": 1000, "segment_ms": 20000},
    "transactions": {"delete_retention_ms": 1000, "segment_ms": 604800000},
}
SEGMENT_BYTES = 4096


class Logs:
    """What a Kafka has on disk."""

    def __init__(self, broker):
        self.broker = broker

    def log_directory(self):
        return os.path.join(self.broker.directory, "data")

    def checkpoint(self):
        return os.path.join(self.log_directory(), "cleaner-offset-checkpoint")

    def clean_ends(self):
        """By topic, from Kafka's file: a version, a count, and lines of topic, partition, offset."""
        try:
            with open(self.checkpoint()) as lines:
                rows = [line.split() for line in lines][2:]
        except FileNotFoundError:
            return {}
        return {topic: int(offset) for topic, _, offset in rows}

    def segments(self, topic):
        """Base offset and bytes of each segment."""
        directory = os.path.join(self.log_directory(), f"{topic}-0")
        names = sorted(name for name in os.listdir(directory) if name.endswith(".log"))
        found = []
        for name in names:
            with open(os.path.join(directory, name), "rb") as log:
                found.append((int(name.split(".")[0]), log.read()))
        return found


class Capture:
    def __init__(self, directory, batches):
        self.directory = directory
        self.batches = batches
        self.facts = []
        self.broker = brokers.Kafka(SETTINGS)
        self.logs = Logs(self.broker)

    def run(self):
        os.makedirs(self.directory, exist_ok=True)
        try:
            self.broker.start()
            self.stream("create")
            self.stream("produce", "1", str(self.batches))
            self.one_pass(1)
            # Horizons of a second are over.
            time.sleep(1.5)
            self.stream("produce", "2", str(self.batches))
            self.one_pass(2)
            self.forget_what_is_clean()
            self.one_pass(3)
        finally:
            self.broker.destroy()
        with open(os.path.join(self.directory, "facts.txt"), "w") as out:
            out.write("".join(line + "\n" for line in self.facts))

    def stream(self, *arguments):
        program = os.path.join(HERE, "CompactionStream.java")
        command = brokers.java_command(program, self.broker.bootstrap, *arguments)
        subprocess.run(command, check=True, timeout=120)

    def one_pass(self, number):
        """Nothing is cleaned before and after: between two passes the logs stand still."""
        froms = self.logs.clean_ends()
        before = {topic: self.logs.segments(topic) for topic in TOPICS}
        self.stream("clean", "0")
        self.wait_until_clean(before)
        at = int(time.time() * 1000)
        self.stream("clean", "1")
        for topic, settings in TOPICS.items():
            after = self.logs.segments(topic)
            bases = [base for base, _ in before[topic]]
            if after[-1] != before[topic][-1]:
                raise RuntimeError(f"{topic}: the active segment changed")
            self.keep(topic, number, "before", before[topic])
            self.keep(topic, number, "after", after)
            words = {"topic": topic, "pass": number, "from": froms.get(topic, 0), "bound": bases[-1], "at": at}
            words |= {"segment_bytes": SEGMENT_BYTES, **settings, "bases": ",".join(map(str, bases))}
            self.facts.append(" ".join(f"{name}={value}" for name, value in words.items()))

    def forget_what_is_clean(self):
        """Lets Kafka clean up to where it did before: what a crash before the checkpoint leads to."""
        time.sleep(1.5)
        self.broker.stop()
        os.remove(self.logs.checkpoint())
        self.broker.start()

    def wait_until_clean(self, before, seconds=60):
        deadline = time.monotonic() + seconds
        while any(self.logs.clean_ends().get(topic) != before[topic][-1][0] for topic in TOPICS):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not clean: {self.logs.clean_ends()}\n{self.broker.log_tail()}")
            time.sleep(0.2)

    def keep(self, topic, number, when, segments):
        with open(os.path.join(self.directory, f"{topic}-{number}.{when}"), "wb") as out:
            for _, data in segments:
                out.write(data)


if __name__ == "__main__":
    Capture(sys.argv[1], int(sys.argv[2])).run()

"""Kafka Streams: a word count with its repartition and changelog topics, at least once, through a crash and a restart."""

import os
import random

from world import SESSION_MS, expect, expect_equal, java, wait_until

WORDS = "one log per core one lane per core one port per core".split()


def scenarios(_full):
    return [("streams word count", word_count)]


def word_count(world):
    world.create_topic("lines", 4)
    world.create_topic("counts", 2)
    chance = random.Random(7)
    wanted = {}

    def say_lines(count):
        lines = [" ".join(chance.choices(WORDS, k=8)) for _ in range(count)]
        for word in " ".join(lines).split():
            wanted[word] = wanted.get(word, 0) + 1
        world.produce("lines", [(i % 4, None, line) for i, line in enumerate(lines)])

    def instance(number):
        state = os.path.join(world.directory, f"streams-{number}")
        arguments = [world.bootstrap, "word-count", state, "lines", "counts", str(SESSION_MS)]
        return world.spawn(java("WordCount", *arguments, heap="256m"), f"streams-{number}")

    def counts():
        """The last count of each word. A word's counts are in order in one partition."""
        told = {}
        for record in world.consume_all("counts"):
            told[record.key().decode()] = int.from_bytes(record.value(), "big")
        return told

    def counted(what):
        wait_until(lambda: counts() == wanted, lambda: f"{what}: {counts()} is not {wanted}", 60, pause=0.5)

    for number in (1, 2):
        log = os.path.join(world.logs, f"streams-{number}.log")
        if os.path.exists(log):
            os.remove(log)
    rounds, per_step = (3, 5000) if world.full else (1, 500)
    say_lines(per_step)
    first = instance(1)
    counted("one instance")
    for turn in range(rounds):
        second = instance(2)
        wait_until(lambda: "state RUNNING" in world.log_tail("streams-2"), "the second instance runs", 60)
        say_lines(per_step)
        counted("two instances")
        # Everything is counted and committed at the latest 200 ms from now, so that nothing may be counted twice.
        wait_until(lambda: lag(world) == 0, lambda: f"lag {lag(world)}", 20)
        second.kill()
        second.wait()
        say_lines(per_step)
        counted("after the crash of an instance")
        wait_until(lambda: lag(world) == 0, lambda: f"lag {lag(world)}", 20)
        world.restart_broker(hard=turn % 2 == 1)
        say_lines(per_step)
        counted("after the restart of the broker")
    expect(world.end(first) in (0, 143), "the instance ends in order")
    topics = world.admin_topics()
    internal = [t for t in topics if t.startswith("word-count-") and t.endswith(("-repartition", "-changelog"))]
    expect_equal(len(internal), 2, f"internal topics among {topics}")
    return f"{sum(wanted.values())} words"


def lag(world):
    """What is left for the application to read of its input and of its repartition topic."""
    total = 0
    for topic in world.admin_topics():
        if topic == "lines" or topic.endswith("-repartition"):
            # Records that were read are deleted from a repartition topic, so the ends alone count.
            ends = world.ends(topic)
            told = world.committed("word-count", topic, len(ends))
            total += sum(end - int(told.get(p, 0)) for p, end in ends.items())
    return total

"""The rules of the soak find what they are for: each is shown a fault, and what only looks like one."""

import contextlib
import io
import unittest

import checks
import members
import readers
import records


class Message:
    def __init__(self, offset, value, key=None):
        self._offset, self._value, self._key = offset, value, key

    def offset(self):
        return self._offset

    def value(self):
        return self._value

    def key(self):
        return self._key


class World:
    """A reader without a client, whose broker tells the bounds that a test gives it."""

    def __init__(self, log_start=0):
        self.checks = checks.Checks()
        self.checks.declare(readers.NAMES)
        self.ledger = records.Ledger()
        self.ledger.new_life("earlier")
        self.life = self.ledger.new_life("topic")
        self.reader = readers.Reader.__new__(readers.Reader)
        self.reader.checks, self.reader.ledger = self.checks, self.ledger
        self.reader.read_bytes = self.reader.read_records = 0
        self.reader.bounds = lambda place: (log_start, 1000)
        self.place = readers.Place("topic", self.life, 0, {7})

    def value(self, number, life=None, producer=7):
        return records.value(life or self.life, producer, number, b"filling")

    def acknowledge(self, offset, value):
        return self.ledger.log(self.life, 0).on_acknowledged(offset, records.checksum(None, value), 0)

    def take(self, offset, value):
        with contextlib.redirect_stdout(io.StringIO()):
            self.reader.take(self.place, Message(offset, value))

    def failed(self):
        return [name for name in readers.NAMES if self.checks.has_failed(name)]


class Reading(unittest.TestCase):
    def test_what_was_acknowledged_is_read(self):
        world = World()
        for offset in range(3):
            self.assertIsNone(world.acknowledge(offset, world.value(offset)))
            world.take(offset, world.value(offset))
        self.assertEqual(world.failed(), [])
        self.assertEqual(world.ledger.totals(), (3, 3))

    def test_another_record_in_its_place(self):
        world = World()
        world.acknowledge(0, world.value(0))
        world.take(0, world.value(1))
        self.assertEqual(world.failed(), [readers.RECORDS])

    def test_another_record_read_before_it_was_acknowledged(self):
        world = World()
        world.take(0, world.value(1))
        self.assertIn("as another record", world.acknowledge(0, world.value(0)))

    def test_one_flipped_bit(self):
        world = World()
        value = bytearray(world.value(0))
        value[20] ^= 1
        world.take(0, bytes(value))
        self.assertEqual(world.failed(), [readers.RECORDS])

    def test_a_record_of_an_earlier_life(self):
        world = World()
        world.take(0, world.value(0, life=1))
        self.assertEqual(world.failed(), [readers.RECORDS])

    def test_a_hole(self):
        world = World()
        world.take(0, world.value(0))
        world.take(5, world.value(5))
        self.assertEqual(world.failed(), [readers.DENSE])

    def test_a_gap_that_retention_made(self):
        world = World(log_start=5)
        world.take(0, world.value(0))
        world.take(5, world.value(5))
        self.assertEqual(world.failed(), [])

    def test_a_gap_of_which_retention_made_a_part(self):
        world = World(log_start=4)
        world.take(0, world.value(0))
        world.take(5, world.value(5))
        self.assertEqual(world.failed(), [readers.DENSE])

    def test_a_step_back(self):
        world = World()
        world.take(0, world.value(0))
        world.take(0, world.value(0))
        self.assertEqual(world.failed(), [readers.DENSE])

    def test_a_duplicate_of_an_idempotent_producer(self):
        world = World()
        world.take(0, world.value(0))
        world.take(1, world.value(0))
        self.assertEqual(world.failed(), [readers.ONCE])

    def test_a_duplicate_of_another_producer(self):
        world = World()
        world.take(0, world.value(0, producer=8))
        world.take(1, world.value(0, producer=8))
        self.assertEqual(world.failed(), [])

    def test_what_was_never_read_is_counted(self):
        world = World()
        for offset in range(3):
            world.acknowledge(offset, world.value(offset))
        world.take(0, world.value(0))
        self.assertEqual(world.ledger.log(world.life, 0).counts(), (3, 1, 2))


class LogStart(unittest.TestCase):
    def test_goes_back(self):
        log = records.Log(None)
        self.assertIsNone(log.on_log_start(5, 0))
        self.assertIn("started at 5", log.on_log_start(4, 0))

    def test_retention_takes_what_is_young(self):
        log = records.Log(1000)
        log.on_acknowledged(0, 1, 10_000)
        self.assertIn("offset 0 is gone at the age of 999 ms", log.on_log_start(1, 10_999))

    def test_retention_takes_what_is_old(self):
        log = records.Log(1000)
        log.on_acknowledged(0, 1, 10_000)
        log.on_acknowledged(32, 1, 10_900)
        self.assertIsNone(log.on_log_start(32, 11_001))

    def test_two_acknowledgements_of_one_offset(self):
        log = records.Log(None)
        self.assertIsNone(log.on_acknowledged(0, 1, 0))
        self.assertIn("twice", log.on_acknowledged(0, 1, 0))


class Commits(unittest.TestCase):
    def judge(self, *lines):
        judge = members.Judge(4)
        for line in lines:
            judge.on_line(line)
        return judge

    def test_within_what_was_handled(self):
        judge = self.judge("m record 0 0 7", "m committed 0 1")
        judge.on_broker_commits({0: 1}, {0: 1})
        self.assertEqual(judge.violations, [])

    def test_beyond_what_was_handled(self):
        judge = self.judge("m record 0 0 7")
        judge.on_broker_commits({0: 2}, {})
        self.assertEqual(len(judge.violations), 1)

    def test_back(self):
        judge = self.judge("m record 0 0 7", "m record 0 1 8", "m committed 0 2")
        judge.on_broker_commits({0: 1}, {0: 2})
        self.assertEqual(len(judge.violations), 1)

    def test_a_record_below_a_commit(self):
        judge = self.judge("m record 0 0 7", "m record 0 1 8", "m committed 0 2", "n record 0 1 8")
        self.assertEqual(len(judge.violations), 1)


class Verdict(unittest.TestCase):
    def test_what_nobody_looked_at_has_failed(self):
        told = checks.Checks()
        told.declare(["looked at", "forgotten", "left out"])
        told.held("looked at")
        told.skip("left out", "for a reason")
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(told.report(), (1, 1))


if __name__ == "__main__":
    unittest.main()

"""The judge sees what it is there to see: python3 -m unittest tests/ecosystem/test_judge.py (or run it)."""

import unittest

from judge import Judge


def judged(*lines, partitions=2):
    judge = Judge(partitions)
    for line in lines:
        if callable(line):
            line(judge)
        else:
            judge.on_line(line)
    return judge


def rough(judge):
    judge.begin_rough()
    judge.end_rough()


class JudgeTest(unittest.TestCase):
    def assert_complaint(self, word, *lines):
        violations = judged(*lines).violations
        self.assertTrue(any(word in violation for violation in violations), violations)

    def test_an_orderly_handover_is_fine(self):
        judge = judged(
            "a assigned 0,1", "a record 0 0 7", "a committed 0 1", "a revoked 0,1", "a assigned 1", "b assigned 0", "b record 0 1 8"
        )
        self.assertEqual(judge.violations, [])
        self.assertTrue(judge.is_settled(["a", "b"]))
        self.assertFalse(judge.is_settled(["a"]))

    def test_a_record_below_a_commit_is_a_step_back_even_after_a_crash(self):
        self.assert_complaint("stepped back", "a record 0 0 7", "a committed 0 1", rough, "b record 0 0 7")

    def test_who_was_given_up_in_something_rough_may_end_what_it_has(self):
        lines = ["a assigned 0", Judge.begin_rough, "b assigned 0", "b record 0 0 7", "b committed 0 1", "a record 0 0 7"]
        self.assertEqual(judged(*lines).violations, [])
        self.assert_complaint("stepped back", *lines[:-1], "b record 0 0 7")
        self.assert_complaint("stepped back", *lines[:-1], "a revoked 0", "a record 0 0 7")

    def test_a_record_handled_twice_needs_something_rough_between(self):
        self.assert_complaint("again", "a record 0 0 7", "b record 0 0 7")
        self.assert_complaint("again", "a record 0 0 7", rough, "b record 0 0 7", "a record 0 0 7")
        self.assertEqual(judged("a record 0 0 7", rough, "b record 0 0 7").violations, [])
        during = judged("x assigned -", Judge.begin_rough, "a record 0 0 7", "b record 0 0 7", Judge.end_rough)
        self.assertEqual(during.violations, [])

    def test_a_lower_commit_is_a_regression(self):
        self.assert_complaint("regressed", "a committed 0 5", "b committed 0 4")

    def test_the_broker_may_not_tell_less_than_was_committed(self):
        forgot = lambda judge: judge.on_broker_commits({}, dict(judge.committed))
        self.assert_complaint("the broker tells -1", "a committed 0 5", forgot)

    def test_what_the_broker_tells_binds_the_members(self):
        tells = lambda judge: judge.on_broker_commits({0: 5}, dict(judge.committed))
        self.assert_complaint("stepped back", tells, "a record 0 4 1")

    def test_two_owners_are_seen_unless_one_is_leaving(self):
        self.assert_complaint("while a owns", "a assigned 0,1", "b assigned 1")
        leaving = judged("a assigned 0,1", lambda judge: judge.on_leave("a"), "b assigned 0,1")
        self.assertEqual(leaving.violations, [])

    def test_a_loss_in_quiet_times_is_seen(self):
        self.assert_complaint("lost", "a assigned 0,1", "a lost 0,1")

    def test_a_record_nobody_handled_and_an_uncommitted_end_are_seen(self):
        judge = judged("a record 0 0 1", "a committed 0 1")
        judge.finish({1, 2}, {0: 1, 1: 0})
        self.assertEqual(len(judge.violations), 1, judge.violations)
        judge.finish({1}, {0: 2})
        self.assertEqual(len(judge.violations), 2, judge.violations)

    def test_an_unknown_line_is_not_ignored(self):
        self.assert_complaint("no such event", "a shouted 1")


if __name__ == "__main__":
    unittest.main()

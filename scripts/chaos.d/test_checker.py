"""Checks that a fault in a history is found. Run by scripts/chaos before each run, and by hand:
python3 scripts/chaos.d/test_checker.py"""

import unittest

from checker import check
from history import History, Run, Settled
from recovery import recoveries
from schedule import SCENARIOS, schedule


def sound():
    """Three jobs: one succeeded at once, one after a failure, and one was discarded."""
    history = History()
    for n, what in [(1, "work"), (2, "fail"), (3, "discard")]:
        history.sent[n] = what
        history.enqueued[n] = 100 + n
        history.enqueued_at[100 + n] = 1.0
    run(history, 1, lease=11, start=2, end=3, how="succeeded")
    run(history, 2, lease=12, start=2, end=3, how="failed")
    run(history, 2, lease=13, start=5, end=6, how="succeeded", attempt=2)
    run(history, 3, lease=14, start=2, end=3, how="discarded")
    history.results = {job: {"kind": "chaos.work", "at": 7.0} for job in (101, 102)}
    history.dead_letters = {103: {"n": 3, "reason": "discarded", "attempt": 1, "errors": []}}
    return history


def run(history, n, lease, start, end, how, attempt=1, worker="w1", answered=True, stale=False):
    job = 100 + n
    history.claimed.add((job, lease))
    history.runs.append(Run(n, job, attempt, lease, worker, 1, False, start, end, how))
    if answered:
        history.settled.append(Settled(end, job, lease, how, stale))


class CheckerTests(unittest.TestCase):
    def test_worker_taken_for_lost_in_an_outage(self):
        history = sound()
        history.losses = [("w1", 10.0)]
        history.faults = [["away", 4.0, 9.0]]
        self.assertBreaks(history, "taken for lost in an outage")
        history.faults.append(["kill", 5.0, 5.0])
        history.kills.append(("w2", 5.0))
        self.assertBreaks(history, "taken for lost in an outage")
        history.kills.append(("w1", 5.0))
        self.assertBreaks(history)
        history.losses.append(("w1", 11.0))
        self.assertBreaks(history, "taken for lost in an outage")
        history.faults.append(["pause", 4.0, 9.0])
        self.assertBreaks(history)

    def assertBreaks(self, history, *rules):
        broken = {rule for rule, wrong in check(history).items() if wrong}
        self.assertEqual(broken, set(rules))

    def test_sound_history_holds(self):
        self.assertBreaks(sound())

    def test_limit_exceeded(self):
        history = sound()
        history.sent.update({1: "limited", 2: "limited"})
        self.assertBreaks(history, "more at once than the limit")
        # The first worker was considered lost before the other run began.
        history.runs[0].worker = "w2"
        history.losses = [("w2", 1.99), ("w2", 2.0)]
        self.assertBreaks(history)

    def test_order_broken(self):
        history = sound()
        history.keys.update({1: "a", 2: "a"})
        self.assertBreaks(history, "an ordered key's jobs out of order")
        history.runs[1].start = history.runs[1].end = 3.5
        self.assertBreaks(history)
        history.runs[0].start, history.runs[0].end = 6.5, 7
        self.assertBreaks(history, "an ordered key's jobs out of order", "ran after its end")

    def test_lost_job(self):
        history = sound()
        del history.results[101]
        self.assertBreaks(history, "lost")

    def test_job_that_is_left_over(self):
        history = sound()
        del history.results[101]
        history.jobs[101] = {"kind": "chaos.work", "state": "running", "why": "?"}
        self.assertBreaks(history, "not ended")

    def test_ended_in_two_places(self):
        history = sound()
        history.results[103] = {"kind": "chaos.work", "at": 7.0}
        self.assertBreaks(history, "ended twice")

    def test_end_acknowledged_twice(self):
        history = sound()
        history.settled.append(Settled(3.0, 101, 11, "succeeded", False))
        self.assertBreaks(history, "ended twice")

    def test_repeat_of_a_settle_is_stale_and_no_second_end(self):
        history = sound()
        history.settled.append(Settled(3.5, 101, 11, "succeeded", True))
        self.assertBreaks(history)

    def test_run_after_the_end(self):
        history = sound()
        run(history, 1, lease=20, start=9, end=10, how="succeeded", stale=True)
        self.assertBreaks(history, "ran after its end")

    def test_run_of_what_nobody_enqueued(self):
        history = sound()
        run(history, 9, lease=20, start=9, end=10, how="succeeded")
        self.assertBreaks(history, "ran without being enqueued")

    def test_run_of_an_enqueue_that_was_not_answered(self):
        history = sound()
        history.unanswered.add(9)
        run(history, 9, lease=20, start=9, end=10, how="succeeded")
        self.assertBreaks(history)

    def test_run_under_another_id(self):
        history = sound()
        history.enqueued[1] = 555
        self.assertBreaks(history, "lost", "ran without being enqueued")

    def test_overlap_without_a_loss(self):
        history = sound()
        history.settled = [s for s in history.settled if s.job != 101]
        run(history, 1, lease=20, start=2.5, end=4, how="succeeded", worker="w2")
        self.assertBreaks(history, "ran twice at once without a loss")

    def test_overlap_after_the_loss_of_another_worker(self):
        history = sound()
        history.settled = [s for s in history.settled if s.job != 101]
        run(history, 1, lease=20, start=2.5, end=4, how="succeeded", worker="w2")
        history.losses = [("w2", 2.2)]
        self.assertBreaks(history, "ran twice at once without a loss")

    def test_overlap_after_a_loss(self):
        history = sound()
        history.settled = [s for s in history.settled if s.job != 101]
        run(history, 1, lease=20, start=2.5, end=4, how="succeeded", worker="w2")
        history.losses = [("w1", 2.2)]
        self.assertBreaks(history)

    def test_run_without_a_claim(self):
        history = sound()
        history.claimed.discard((101, 11))
        self.assertBreaks(history, "claimed by nobody and run")

    def test_attempt_charged_for_a_loss(self):
        history = sound()
        history.runs[0].how = None
        history.settled = [s for s in history.settled if s.job != 101]
        run(history, 1, lease=20, start=9, end=10, how="succeeded", attempt=2)
        self.assertBreaks(history, "attempts wrongly charged")

    def test_attempt_not_charged_for_a_failure(self):
        history = sound()
        history.runs[2].attempt = 1
        self.assertBreaks(history, "attempts wrongly charged")

    def test_failure_without_an_answer_may_be_charged_or_not(self):
        for attempt in (1, 2):
            history = sound()
            history.settled = [s for s in history.settled if s.lease != 12]
            history.runs[2].attempt = attempt
            self.assertBreaks(history)

    def test_stale_failure_is_not_charged(self):
        history = sound()
        for settled in history.settled:
            if settled.lease == 12:
                settled.stale = True
        self.assertBreaks(history)  # a settle whose answer was lost may have recorded it
        history.settled[1].outcome = "released"
        self.assertBreaks(history, "attempts wrongly charged")

    def test_probe_is_not_charged(self):
        history = sound()
        history.sent[2] = "call"
        history.runs[1].how, history.settled[1].outcome = "unavailable", "unavailable"
        self.assertBreaks(history)
        history.runs[1].probe = True
        self.assertBreaks(history, "attempts wrongly charged")
        history.charged_probes = {history.runs[1].job}
        self.assertBreaks(history)
        history.charged_probes = set()
        history.runs[2].attempt = 1
        self.assertBreaks(history)

    def test_probe_without_an_answer_may_be_charged_when_its_round_closed_the_circuit(self):
        history = sound()
        history.sent[2] = "call"
        history.runs[1].how, history.runs[1].probe = "unavailable", True
        del history.settled[1]
        self.assertBreaks(history, "attempts wrongly charged")
        history.charged_probes = {history.runs[1].job}
        self.assertBreaks(history)

    def test_dead_of_what_it_should_not_be(self):
        history = sound()
        history.dead_letters[103]["reason"] = "poison"
        self.assertBreaks(history, "dead for a wrong reason")

    def test_only_what_no_client_sent_may_be_unreadable(self):
        history = sound()
        history.dead_letters[104] = history.dead_letters[103] | {"n": None, "reason": "unreadable"}
        self.assertBreaks(history)
        history.dead_letters[103]["reason"] = "unreadable"
        self.assertBreaks(history, "dead for a wrong reason")

    def test_dead_as_poison_because_a_fault_ended_its_worker(self):
        history = sound()
        history.dead_letters[103].update(reason="poison", at=9.0)
        history.deaths.append(("w1", 1, 2.5))
        self.assertBreaks(history)
        history.deaths = [("w1", 1, 9.5)]
        self.assertBreaks(history, "dead for a wrong reason")

    def test_gap_in_a_circuit(self):
        history = sound()
        row = {"kind": "k", "key": "", "from_state": "closed", "to_state": "open"}
        history.transitions = [
            row | {"generation": 2},
            row | {"generation": 3, "from_state": "open", "to_state": "half_open"},
        ]
        self.assertBreaks(history)
        history.transitions[1]["generation"] = 4
        self.assertBreaks(history, "circuit's history broken")

    def test_recovery(self):
        history = sound()
        history.faults = [["kill", 2.0, 2.0]]
        self.assertEqual(recoveries(history), {"kill": [(5.0, 5.0)]})

    def test_pause_that_is_too_long(self):
        history = sound()
        history.faults = [["crash", 2.0, 2.0]]
        self.assertBreaks(history)
        for result in history.results.values():
            result["at"] = 33.0
        self.assertBreaks(history, "carried on too late")

    def test_job_that_waits_too_long(self):
        history = sound()
        history.enqueued_at[101] = -40.0
        self.assertBreaks(history, "starved")
        # The fault and the time after it are a reason.
        history.faults = [["crash", -30.0, -29.0]]
        history.results = {job: {"kind": "chaos.work", "at": 0.5} for job in (101, 102)}
        self.assertBreaks(history)
        # Jobs of an open circuit wait.
        history.faults = []
        history.sent[1] = "call"
        self.assertBreaks(history)


class ScheduleTests(unittest.TestCase):
    def test_same_seed_same_schedule(self):
        for name in SCENARIOS:
            self.assertEqual(schedule(name, 60, 7), schedule(name, 60, 7))
        self.assertNotEqual(schedule("mixed", 60, 7), schedule("mixed", 60, 8))

    def test_faults_end_with_the_load(self):
        for seed in range(100):
            for fault in schedule("mixed", 60, seed):
                self.assertLessEqual(fault.start + fault.duration, 60)

    def test_each_kind_has_its_own_scenario(self):
        for name, (kinds, _) in SCENARIOS.items():
            if name != "calm":
                self.assertTrue({fault.kind for fault in schedule(name, 60, 1)} <= set(kinds))
                self.assertTrue(schedule(name, 60, 1), name)


if __name__ == "__main__":
    unittest.main()

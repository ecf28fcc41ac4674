"""Tests of the library, each with a real process: python3 -m unittest discover -s tests"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENVIRONMENT = {**os.environ, "PYTHONPATH": LIBRARY, "PYTHONDONTWRITEBYTECODE": "1"}

SYNC = """
import os, sys, time
from breakwater_stdio import *
def handle(job):
    {body}
serve(handle)
"""
ASYNC = """
import asyncio, os, sys, time
from breakwater_stdio import *
async def handle(job):
    {body}
serve_async(handle{jobs})
"""

# Its job begins after the watching thread has seen that nothing runs, and before that thread sleeps.
FALLS_ASLEEP = """
import threading, time
import breakwater_stdio
begun = threading.Event()
class Awake(threading.Event):
    def clear(self):
        begun.wait(30)
        super().clear()
class Serving(breakwater_stdio._Serving):
    def __init__(self, handler):
        super().__init__(handler)
        self.awake = Awake()
def handle(job):
    begun.set()
    time.sleep(1)
Serving(handle).serve()
"""

# Its first job ends after the watching thread has seen that the job runs, and before that thread takes what it reads.
# Each look at a waiting job takes a second.
TAKES_WHILE_WAITING_JOBS_ARE_LOOKED_AT = """
import collections, threading, time
import breakwater_stdio
looking = threading.Event()
select = breakwater_stdio.select.select
def slow_select(*arguments):
    found = select(*arguments)
    if found[0]:
        looking.set()
        time.sleep(0.5)
    return found
breakwater_stdio.select.select = slow_select
class Queue(collections.deque):
    def __iter__(self):
        for message in super().__iter__():
            yield message
            time.sleep(1)
def handle(job):
    if job.payload == "wait":
        job.progress(1)
        looking.wait(30)
serving = breakwater_stdio._Serving(handle)
serving.queue = Queue()
serving.serve()
"""

# Its run is cancelled just before the handler is called.
CANCELLED_AT_THE_LAST_MOMENT = """
import breakwater_stdio
class Job(breakwater_stdio.Job):
    def __init__(self, message, process):
        super().__init__(message, process)
        serving.take([b'{"type":"cancel","run":1}'])
breakwater_stdio.Job = Job
serving = breakwater_stdio._Serving(lambda job: "ran")
serving.serve()
"""


class Handler:
    """A handler's process, and a worker's side of the protocol."""

    def __init__(self, script, jobs=4, heartbeat=10, max_line=1 << 20):
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        # A process that does not answer must not hold the tests up.
        self.timer = threading.Timer(60, self.process.kill)
        self.timer.start()
        self.send({"type": "hello", "protocol": 1, "jobs": jobs, "heartbeat": heartbeat, "max_line": max_line})
        self.hello = self.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.process.kill()
        self.process.communicate()

    def send(self, *messages):
        self.process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        self.process.stdin.flush()

    def run(self, *payloads, first=1):
        self.send(*(self.message(first + index, payload) for index, payload in enumerate(payloads)))

    def message(self, run, payload):
        return {
            "type": "run",
            "run": run,
            "id": "9223372036854775807",
            "kind": "k",
            "queue": "q",
            "attempt": 2,
            "max_attempts": 9,
            "deadline": "2026-01-31T00:00:00.000Z",
            "idempotency_key": "breakwater-1",
            "traceparent": "00-ab-cd-01",
            "payload": payload,
            "x_later": [1],
        }

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def end(self):
        self.process.stdin.close()
        self.process.stdin = None
        output, errors = self.process.communicate(timeout=30)
        return output, errors.decode(), self.process.returncode


class Common:
    """What both ways to serve have in common."""

    def script(self, body, jobs=""):
        return self.template.format(body=body, jobs=jobs)

    def answer(self, body, payload=None, **options):
        with Handler(self.script(body), **options) as handler:
            handler.run(payload)
            return handler.read()

    def test_hello(self):
        with Handler(self.script("pass")) as handler:
            self.assertEqual(handler.hello["type"], "hello")
            self.assertEqual(handler.hello["protocol"], 1)
            self.assertEqual(sorted(handler.hello["can"]), ["cancel", "heartbeat"])

    def test_results(self):
        self.assertEqual(self.answer("pass"), {"type": "result", "run": 1, "outcome": "succeeded"})
        self.assertEqual(self.answer("return job.payload", {"é": [None, "\ud83d"]})["result"], {"é": [None, "\ud83d"]})
        answer = self.answer("return float('nan')")
        self.assertEqual((answer["outcome"], answer["error"]["name"]), ("failed", "ValueError"))

    def test_job(self):
        body = "return [job.id, job.kind, job.queue, job.attempt, job.max_attempts, job.idempotency_key, job.traceparent, job.tracestate, job.deadline, job.last_checkpoint]"
        self.assertEqual(
            self.answer(body)["result"],
            [(1 << 63) - 1, "k", "q", 2, 9, "breakwater-1", "00-ab-cd-01", None, "2026-01-31T00:00:00.000Z", None],
        )

    def test_outcomes(self):
        error = {"name": "a.b", "message": "c"}
        for raised, members in [
            ("Fail('a.b', 'c')", {"outcome": "failed", "error": error}),
            ("Discard('a.b', 'c')", {"outcome": "discarded", "error": error}),
            ("Unable('a.b', 'c')", {"outcome": "unable", "error": error}),
            ("Unavailable('a.b', 'c')", {"outcome": "unavailable", "error": error}),
            ("Unavailable('a.b', 'c', 3)", {"outcome": "unavailable", "error": error, "retry_after": 3}),
            ("Throttle('a.b', 'c', retry_after=0.5)", {"outcome": "throttled", "error": error, "retry_after": 0.5}),
            ("Snooze(60)", {"outcome": "snoozed", "retry_after": 60}),
            ("Release()", {"outcome": "released"}),
            ("Discard()", {"outcome": "discarded", "error": {"name": "Discard", "message": ""}}),
            ("KeyError('to')", {"outcome": "failed", "error": {"name": "KeyError", "message": "'to'"}}),
        ]:
            with self.subTest(raised):
                self.assertEqual(self.answer(f"raise {raised}"), {"type": "result", "run": 1, **members})

    def test_name_is_cut_between_characters(self):
        name = self.answer("raise Fail('é' * 150)")["error"]["name"]
        self.assertEqual(name, "é" * 100)

    def test_refused_results(self):
        """What the worker would refuse is a failure, and other jobs go on."""
        deep = "deep = 1\n    for _ in range({}): deep = [deep]\n    "
        for body, name in [
            ("return b''", "TypeError"),
            ("return [float('inf')]", "ValueError"),
            ("cycle = []; cycle.append(cycle); return cycle", "ValueError"),
            ("return 'x' * 3000", "result.tooLong"),
            ("return 'é' * 500", "result.tooLong"),
            (deep.format(511) + "return deep", "RecursionError"),
            (deep.format(5000) + "return {'a': deep}", "RecursionError"),
            ("job.checkpoint('x' * 3000)", "checkpoint.tooLong"),
            ("raise Snooze(float('nan'))", "ValueError"),
            ("raise Unavailable('a.b', 'c', float('nan'))", "ValueError"),
            ("raise Throttle('a.b', 'c', float('inf'))", "ValueError"),
            ("raise Throttle('a.b', 'c', {})", "TypeError"),
        ]:
            script = self.script(f"if job.payload: return 1\n    {body}")
            with self.subTest(body), Handler(script, max_line=2048) as handler:
                handler.run(False, True)
                answers = {answer["run"]: answer for answer in (handler.read(), handler.read())}
                self.assertEqual((answers[1]["outcome"], answers[1]["error"]["name"]), ("failed", name))
                self.assertEqual(answers[2]["outcome"], "succeeded")
        error = self.answer("return 'x' * 3000", max_line=2048)["error"]
        self.assertEqual(error["message"], "the line of the result has 3059 bytes of at most 2048")

    def test_accepted_results(self):
        self.assertEqual(len(self.answer("return 'x' * 1989", max_line=2048)["result"]), 1989)
        self.assertEqual(self.answer("return [[]] * 600")["result"], [[]] * 600)
        body = "deep = 1\n    for _ in range(510): deep = [deep]\n    return deep"
        self.assertEqual(self.answer(body)["outcome"], "succeeded")

    def test_long_messages_are_cut(self):
        for raised, outcome in [("Discard('é' * 100, '😀' * 9000)", "discarded"), ("KeyError('x' * 9000)", "failed")]:
            for max_line in [2048, 1 << 20]:
                with self.subTest(raised, max_line=max_line):
                    answer = self.answer(f"raise {raised}", max_line=max_line)
                    self.assertEqual(answer["outcome"], outcome)
                    self.assertEqual(len(answer["error"]["message"]), min(8192, max_line // 20))

    def test_long_notes_are_cut(self):
        for max_line in [1024, 1 << 20]:
            with Handler(self.script("job.progress(note='😀' * 2000)"), max_line=max_line) as handler:
                handler.run(None)
                self.assertEqual(len(handler.read()["note"]), min(1000, max_line // 20))
                self.assertEqual(handler.read()["outcome"], "succeeded")

    def test_message_that_is_no_text(self):
        error = self.answer("raise Discard(5, ValueError('why'))")["error"]
        self.assertEqual(error, {"name": "5", "message": "why"})

    def test_waiting_times_that_are_too_short(self):
        self.assertEqual(self.answer("raise Unavailable('a.b', 'c', -1)")["retry_after"], 0)
        for seconds in [0, -1, 1e-30]:
            self.assertEqual(self.answer(f"raise Snooze({seconds})")["retry_after"], 1e-6)

    def test_payloads_that_cannot_be_decoded(self):
        depth = 100_000
        for payload in ["[" * depth + "]" * depth, *(["9" * 5000] if sys.version_info >= (3, 11) else [])]:
            with self.subTest(payload[:1]), Handler(self.script("return job.payload")) as handler:
                lines = [json.dumps(handler.message(run, run)) for run in (1, 2, 3)]
                lines[1] = lines[1].replace('"payload": 2', f'"payload": {payload}').replace(" ", "")
                handler.process.stdin.write("".join(line + "\n" for line in lines).encode())
                handler.process.stdin.flush()
                answers = {answer["run"]: answer for answer in (handler.read() for _ in range(3))}
                self.assertEqual(answers[2]["outcome"], "failed")
                self.assertEqual(answers[2]["error"]["name"], "payload.unreadable")
                self.assertIn("Python cannot decode the payload: ", answers[2]["error"]["message"])
                self.assertEqual([answers[1]["result"], answers[3]["result"]], [1, 3])

    def test_message_that_cannot_be_decoded(self):
        with Handler(self.script("return job.payload")) as handler:
            handler.process.stdin.write(b'{"type":"x-later","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n")
            handler.run(1)
            self.assertEqual(handler.read()["result"], 1)
            self.assertIn("Python cannot decode a message: ", handler.end()[1])

    def test_heartbeats_after_a_drain(self):
        with Handler(self.script(self.slow), heartbeat=0.1) as handler:
            handler.run(0.6)
            handler.send({"type": "drain"})
            messages = [handler.read()]
            while messages[-1]["type"] != "result":
                messages.append(handler.read())
            self.assertGreaterEqual(len(messages), 3)

    def test_output_goes_to_standard_error(self):
        with Handler(
            self.script("print('printed'); os.system('echo by a program'); return sys.stdin.read()")
        ) as handler:
            handler.run(None)
            self.assertEqual(handler.read()["result"], "")
            output, errors, status = handler.end()
            self.assertEqual((output, status), (b"", 0))
            self.assertIn("printed", errors)
            self.assertIn("by a program", errors)

    def test_reports(self):
        with Handler(self.script("job.progress(0.5, 'half'); job.progress(0.6); job.checkpoint({'n': 1})")) as handler:
            handler.run(None)
            self.assertEqual(handler.read(), {"type": "progress", "run": 1, "fraction": 0.5, "note": "half"})
            # The second report came too soon after the first.
            self.assertEqual(handler.read(), {"type": "checkpoint", "run": 1, "checkpoint": {"n": 1}})
            self.assertEqual(handler.read()["type"], "result")

    def test_drain_finishes_what_is_there(self):
        with Handler(self.script("return job.payload")) as handler:
            handler.send(*(handler.message(run, run) for run in range(1, 51)), {"type": "drain"})
            self.assertEqual(sorted(handler.read()["result"] for _ in range(50)), list(range(1, 51)))
            self.assertEqual(handler.end()[0::2], (b"", 0))

    def test_end_of_input_ends_the_process(self):
        with Handler(self.script("return job.payload")) as handler:
            self.assertEqual(handler.end()[0::2], (b"", 0))

    def test_another_version_is_refused(self):
        with Handler(self.script("pass")) as handler:
            pass
        process = subprocess.run(
            [sys.executable, "-c", self.script("pass")],
            input=b'{"type":"hello","protocol":2}\n',
            capture_output=True,
            env=ENVIRONMENT,
        )
        self.assertEqual((process.returncode, process.stdout), (1, b""))
        self.assertIn(b"not version 1", process.stderr)
        self.assertEqual(handler.hello["protocol"], 1)

    def test_cancelled_run_before_it_starts(self):
        with Handler(self.script(self.slow), jobs=1) as handler:
            handler.run(0.3, "never")
            handler.send({"type": "cancel", "run": 2})
            answers = {answer["run"]: answer["outcome"] for answer in (handler.read(), handler.read())}
            self.assertEqual(answers, {1: "succeeded", 2: "released"})

    def test_late_cancel_is_ignored(self):
        with Handler(self.script("return job.payload")) as handler:
            handler.run(1)
            handler.read()
            handler.send({"type": "cancel", "run": 1})
            handler.run(2, first=2)
            self.assertEqual(handler.read()["result"], 2)


class SyncTests(Common, unittest.TestCase):
    template = SYNC
    slow = "time.sleep(job.payload)"

    def test_one_at_a_time(self):
        with Handler(self.script("time.sleep(0.05); return job.payload")) as handler:
            self.assertEqual(handler.hello["jobs"], 1)
            handler.run(1, 2, 3)
            self.assertEqual([handler.read()["result"] for _ in range(3)], [1, 2, 3])

    def test_cancel_interrupts(self):
        for wait in ["time.sleep(60)", "exec('while True: pass')"]:
            with self.subTest(wait), Handler(self.script(f"job.checkpoint(1); {wait}")) as handler:
                handler.run(None)
                handler.read()
                handler.send({"type": "cancel", "run": 1})
                self.assertEqual(handler.read(), {"type": "result", "run": 1, "outcome": "released"})
                handler.send({**handler.message(2, None), "type": "x-later"})
                self.assertEqual(handler.end()[2], 0)

    def test_progress_raises_in_a_cancelled_run(self):
        body = "\n    while True: job.checkpoint(1); signal = 1"
        with Handler(self.script(body)) as handler:
            handler.run(None)
            handler.read()
            handler.send({"type": "cancel", "run": 1})
            answer = handler.read()
            while answer["type"] == "checkpoint":
                answer = handler.read()
            self.assertEqual(answer["outcome"], "released")

    def test_heartbeats(self):
        with Handler(self.script("time.sleep(0.5)"), heartbeat=0.1) as handler:
            handler.run(None)
            messages = [handler.read()]
            while messages[-1]["type"] != "result":
                messages.append(handler.read())
            self.assertGreaterEqual(len(messages), 3)
            self.assertEqual({message["type"] for message in messages[:-1]}, {"heartbeat"})

    def test_wakes_up_after_a_long_rest(self):
        with Handler(self.script("time.sleep(0.4)"), heartbeat=0.05) as handler:
            # The watching thread falls asleep after 50 looks, which take 1.25 s here.
            time.sleep(2)
            handler.run(None)
            self.assertEqual(handler.read()["type"], "heartbeat")

    def test_heartbeats_of_a_job_that_begins_while_the_watching_thread_falls_asleep(self):
        with Handler(FALLS_ASLEEP, heartbeat=0.05) as handler:
            # The watching thread sees that nothing runs for 1.25 s, and then waits for this job.
            time.sleep(2)
            handler.run(None)
            self.assertEqual(handler.read()["type"], "heartbeat")

    def test_messages_while_the_waiting_jobs_are_looked_at(self):
        with Handler(TAKES_WHILE_WAITING_JOBS_ARE_LOOKED_AT) as handler:
            payloads = enumerate(["wait", 2, 3], 1)
            handler.send(*(handler.message(*payload) for payload in payloads), {"type": "cancel", "run": 3})
            self.assertEqual(handler.read()["type"], "progress")
            handler.run(4, first=4)
            answers = [(answer["run"], answer["outcome"]) for answer in (handler.read() for _ in range(4))]
            self.assertEqual(answers, [(1, "succeeded"), (2, "succeeded"), (3, "released"), (4, "succeeded")])

    def test_cancelled_at_the_last_moment(self):
        with Handler(CANCELLED_AT_THE_LAST_MOMENT) as handler:
            handler.run(None, None)
            self.assertEqual([handler.read()["outcome"] for _ in range(2)], ["released", "succeeded"])

    def test_results_are_written_before_the_next_job(self):
        with Handler(self.script("job.payload and os.kill(os.getpid(), 9)")) as handler:
            handler.run(0, 0, 1)
            self.assertEqual([handler.read()["run"] for _ in range(2)], [1, 2])
            self.assertIsNone(handler.read())
            self.assertEqual(handler.process.wait(), -signal.SIGKILL)


class AsyncTests(Common, unittest.TestCase):
    template = ASYNC
    slow = "await asyncio.sleep(job.payload)"

    def test_many_at_once(self):
        with Handler(self.script("await asyncio.sleep(job.payload); return job.payload"), jobs=3) as handler:
            self.assertEqual(handler.hello["jobs"], 3)
            handler.run(0.4, 0.2, 0.01)
            self.assertEqual([handler.read()["run"] for _ in range(3)], [3, 2, 1])

    def test_own_limit(self):
        with Handler(self.script("await asyncio.sleep(job.payload)", jobs=", jobs=1"), jobs=3) as handler:
            self.assertEqual(handler.hello["jobs"], 1)
            handler.run(0.2, 0.01)
            self.assertEqual([handler.read()["run"] for _ in range(2)], [1, 2])

    def test_cancel_interrupts(self):
        with Handler(self.script("job.checkpoint(1); await asyncio.sleep(60)")) as handler:
            handler.run(None)
            handler.read()
            handler.send({"type": "cancel", "run": 1})
            self.assertEqual(handler.read(), {"type": "result", "run": 1, "outcome": "released"})

    def test_heartbeats(self):
        with Handler(self.script("await asyncio.sleep(0.5)"), heartbeat=0.1) as handler:
            handler.run(None)
            messages = [handler.read()]
            while messages[-1]["type"] != "result":
                messages.append(handler.read())
            self.assertGreaterEqual(len(messages), 3)

    def test_cancelled_run_whose_task_has_not_started(self):
        # The first job ends in the turn of the loop that reads the cancellation, before or after its last step.
        for body in ["time.sleep(job.payload)", "time.sleep(job.payload); await asyncio.sleep(0)"]:
            with self.subTest(body), Handler(self.script(body), jobs=1) as handler:
                handler.run(0.5, 0, 0)
                time.sleep(0.2)
                handler.send({"type": "cancel", "run": 2})
                answers = {answer["run"]: answer["outcome"] for answer in (handler.read() for _ in range(3))}
                self.assertEqual(answers, {1: "succeeded", 2: "released", 3: "succeeded"})
                self.assertEqual(handler.end()[0::2], (b"", 0))


if __name__ == "__main__":
    unittest.main()

"""Handlers for Breakwater's `stdio` plugin, in Python.

    from breakwater_stdio import Discard, serve

    def handle(job):
        if "to" not in job.payload:
            raise Discard("mail.noRecipient", "the payload has no 'to'")
        send_mail(job.payload["to"])
        return {"sent": True}

    serve(handle)

A handler is a function that takes a Job. What it returns is the job's result, which must be JSON; None is no result. An
Outcome that it raises is the outcome of the run. Any other exception is a failure under the name of its type, and its
traceback goes to standard error.

`serve` runs one job after another. `serve_async` takes a coroutine function and runs many jobs at once. Both return
when the worker wants the process to end.

Standard output belongs to the protocol, so both redirect it: what a handler prints goes to standard error, which the
worker logs. Standard input is empty for the handler.
"""

import asyncio
import collections
import functools
import json
import math
import os
import re
import select
import signal
import sys
import threading
import time
import traceback

__all__ = [
    "Cancelled",
    "Discard",
    "Fail",
    "Job",
    "Outcome",
    "Release",
    "Snooze",
    "Throttle",
    "Unable",
    "Unavailable",
    "serve",
    "serve_async",
]
__version__ = "1.0.0"

PROTOCOL = 1
CHUNK = 1 << 16
# How often the watching thread looks while a job runs.
WATCH_SECONDS = 0.1
# A job's progress is written at most this often.
PROGRESS_SECONDS = 0.1
# The worker keeps no more characters of a note, and of a failure's message.
NOTE_CHARACTERS = 1000
MESSAGE_CHARACTERS = 8192
# The worker refuses a message that has a value at this depth.
MAX_DEPTH = 512
# The shortest snooze, in seconds. The worker's database rounds shorter ones to 0.
SHORTEST_SNOOZE = 1e-6


class Outcome(Exception):
    """The outcome of a run, for a handler to raise. Use one of the classes below."""

    outcome = "failed"
    takes_retry_after = False

    def __init__(self, name="", message="", retry_after=None):
        super().__init__(message)
        self.name = name or type(self).__name__
        self.message = message
        self.retry_after = retry_after

    def members(self):
        """The members of the result, as a dictionary."""
        members = {"outcome": self.outcome, "error": _error(self.name, self.message)}
        if self.takes_retry_after and self.retry_after is not None:
            members["retry_after"] = _seconds(self.retry_after, least=0)
        return members


class Fail(Outcome):
    """The run failed. The job is retried with backoff."""


class Unavailable(Outcome):
    """What the job depends on is down. The job is retried with backoff, or after `retry_after` seconds if longer."""

    outcome = "unavailable"
    takes_retry_after = True


class Throttle(Outcome):
    """What the job depends on limits the rate. The job runs again after `retry_after` seconds; no attempt is spent."""

    outcome = "throttled"
    takes_retry_after = True


class Discard(Outcome):
    """The job can never succeed. It becomes a dead letter at once."""

    outcome = "discarded"


class Unable(Outcome):
    """This worker lacks something that the job needs, whatever the job is. No attempt is spent."""

    outcome = "unable"


class Snooze(Outcome):
    """The job is to run again after this many seconds. No attempt is spent."""

    def __init__(self, seconds):
        super().__init__("Snooze", f"for {seconds} seconds", seconds)

    def members(self):
        return {"outcome": "snoozed", "retry_after": _seconds(self.retry_after, least=SHORTEST_SNOOZE)}


class Release(Outcome):
    """The run did not happen. The job runs again at once. No attempt is spent."""

    def members(self):
        return {"outcome": "released"}


class Cancelled(BaseException):
    """Raised inside a handler of `serve` when its run is cancelled: its time is over, or the worker stops."""


def _error(name, message):
    name = str(name).encode("utf-8", "replace")[:200].decode("utf-8", "ignore") or "error"
    return {"name": name, "message": str(message)}


def _seconds(value, least):
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"the job cannot run again after {seconds} seconds")
    return max(least, seconds)


class Job:
    """The job of one run."""

    __slots__ = ("_message", "_next_progress", "_process", "is_cancelled")

    def __init__(self, message, process):
        self._message = message
        self._process = process
        self._next_progress = 0.0
        #: Whether the worker has cancelled the run.
        self.is_cancelled = False

    @property
    def payload(self):
        """The payload, decoded from JSON."""
        return self._message["payload"]

    @property
    def id(self):
        """The job's number."""
        return int(self._message["id"])

    @property
    def kind(self):
        return self._message["kind"]

    @property
    def queue(self):
        return self._message["queue"]

    @property
    def attempt(self):
        """The number of this counted run, from 1 on."""
        return self._message["attempt"]

    @property
    def max_attempts(self):
        return self._message["max_attempts"]

    @property
    def deadline(self):
        """When the run is cancelled, as text: RFC 3339 in UTC."""
        return self._message["deadline"]

    @property
    def idempotency_key(self):
        """A text that is the same for every run of this job."""
        return self._message["idempotency_key"]

    @property
    def traceparent(self):
        """The W3C trace context of the run; None if there is none."""
        return self._message.get("traceparent")

    @property
    def tracestate(self):
        return self._message.get("tracestate")

    @property
    def last_checkpoint(self):
        """The checkpoint that an earlier attempt reported; None if there is none."""
        return self._message.get("checkpoint")

    def progress(self, fraction=None, note=None):
        """Reports how much is done, from 0 to 1, and what is being done. More than ten a second are skipped."""
        now = time.monotonic()
        if now < self._next_progress and fraction != 1:
            return
        self._next_progress = now + PROGRESS_SECONDS
        members = {"type": "progress", "run": self._message["run"]}
        if fraction is not None:
            members["fraction"] = min(1.0, max(0.0, fraction))
        if note is not None:
            members["note"] = self._process.cut(note, NOTE_CHARACTERS)
        self._report(members)

    def checkpoint(self, state):
        """Reports a state, which must be JSON, from which a later attempt can go on."""
        self._report({"type": "checkpoint", "run": self._message["run"], "checkpoint": state})

    def _report(self, members):
        self._process.send(self._process.line(members))
        if self.is_cancelled and self._process.interrupts:
            raise Cancelled()


def _members(error):
    """The members of the result of a run whose handler has raised this."""
    if isinstance(error, Outcome):
        return error.members()
    traceback.print_exception(type(error), error, error.__traceback__)
    sys.stderr.flush()
    return {"outcome": "failed", "error": _error(type(error).__name__, error)}


def _is_too_deep(message):
    level = [message]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list, tuple))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)


class _Process:
    """The streams of this process, and the hello."""

    def __init__(self, can):
        self.can = can
        # Whether a signal raises Cancelled, which must not happen in the middle of a line.
        self.interrupts = False
        # The protocol has streams of its own. The handler, and the programs that it starts, must not touch them.
        self.is_sending = False
        self.input = os.dup(0)
        self.output = os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdout.flush()
        os.dup2(2, 1)
        self.parts = []
        self.lock = threading.Lock()
        self.jobs = 1
        self.heartbeat = 10.0
        self.max_line = sys.maxsize

    def read(self):
        """The complete lines of one read, which waits; None at the end of the input."""
        try:
            chunk = os.read(self.input, CHUNK)
        except BlockingIOError:
            return []
        if not chunk:
            return None
        end = chunk.rfind(b"\n")
        if end < 0:
            self.parts.append(chunk)
            return []
        self.parts.append(chunk[:end])
        lines = b"".join(self.parts).split(b"\n")
        self.parts = [chunk[end + 1 :]] if end + 1 < len(chunk) else []
        return lines

    def greet(self, jobs):
        """Waits for the worker's hello and answers it. Returns the lines that came with it; None without a hello."""
        lines = []
        while not lines:
            lines = self.read()
            if lines is None:
                return None
        hello = json.loads(lines[0])
        if hello.get("type") != "hello" or hello.get("protocol") != PROTOCOL:
            raise SystemExit(f"this is not version {PROTOCOL} of Breakwater's stdio protocol: {lines[0][:200]!r}")
        self.jobs = hello.get("jobs", 1) if jobs is None else min(jobs, hello.get("jobs", 1))
        self.heartbeat = max(0.05, hello.get("heartbeat", 10))
        self.max_line = hello.get("max_line", sys.maxsize)
        library = f"python {__version__}"
        self.send(
            self.line({"type": "hello", "protocol": PROTOCOL, "jobs": self.jobs, "can": self.can, "library": library})
        )
        return lines[1:]

    def messages(self, lines):
        """The messages of the lines. A run whose payload cannot be decoded is answered here."""
        for line in lines:
            try:
                message = json.loads(line)
            except (RecursionError, ValueError) as error:
                # Python limits the depth of values and the digits of whole numbers.
                run = re.match(rb'{"type":"run","run":(\d+)', line)
                if run:
                    failure = Fail("payload.unreadable", f"Python cannot decode the payload: {error}")
                    self.send(self.result(int(run[1]), error=failure))
                else:
                    print(f"Python cannot decode a message: {error}: {line[:200]!r}", file=sys.stderr, flush=True)
            else:
                yield message

    def cut(self, text, characters):
        """The beginning of a text. A character takes at most 12 bytes, so the rest of the line has room."""
        return str(text)[: min(characters, self.max_line // 20)]

    def line(self, message):
        """The line of a message. Raises if the worker would refuse it."""
        # Pure ASCII, so that half a surrogate pair does no harm.
        line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii")
        if len(line) > self.max_line:
            kind = message["type"]
            raise Fail(f"{kind}.tooLong", f"the line of the {kind} has {len(line)} bytes of at most {self.max_line}")
        # A message with fewer brackets cannot be too deep. Nearly all have fewer.
        if line.count(b"[") + line.count(b"{") >= MAX_DEPTH and _is_too_deep(message):
            raise RecursionError(f"the {message['type']} is nested {MAX_DEPTH} deep or more")
        return line + b"\n"

    def result(self, run, value=None, error=None):
        """The line with the outcome of a run: the value that its handler returned, or the error that it raised."""
        if value is None and error is None:
            return b'{"type":"result","run":%d,"outcome":"succeeded"}\n' % run
        try:
            members = {"outcome": "succeeded", "result": value} if error is None else _members(error)
            if "error" in members:
                members["error"]["message"] = self.cut(members["error"]["message"], MESSAGE_CHARACTERS)
            return self.line({"type": "result", "run": run, **members})
        except Exception as fault:
            return self.result(run, error=fault)

    def send(self, line):
        """Writes a line now. A result must not wait in memory: the next job may crash the process."""
        with self.lock:
            self.is_sending = threading.current_thread() is threading.main_thread()
            while line:
                try:
                    written = os.write(self.output, line)
                except BrokenPipeError:
                    # The worker has ended, and so does this process: its input has ended too.
                    line = b""
                    break
                line = line[written:]
            self.is_sending = False


class _Serving:
    """Runs one job after another on the main thread.

    The main thread reads while no job runs. While one does, another thread reads instead, but looks only ten times a
    second: for cancellations, and to write heartbeats. So a short job costs no switch between threads.
    """

    def __init__(self, handler):
        self.handler = handler
        self.can_interrupt = threading.current_thread() is threading.main_thread()
        self.process = _Process(["cancel", "heartbeat"] if self.can_interrupt else ["heartbeat"])
        self.queue = collections.deque()
        self.reading = threading.Lock()
        self.ended = False
        self.cancelled = set()
        # The run whose handler is running; the count of the runs so far.
        self.current = None
        self.count = 0
        self.sleeping = False
        self.awake = threading.Event()

    def serve(self):
        if self.can_interrupt:
            self.process.interrupts = True
            signal.signal(signal.SIGUSR1, self.interrupted)
        lines = self.process.greet(1)
        if lines is None:
            return
        threading.Thread(target=self.watch, name="breakwater", daemon=True).start()
        self.take(lines)
        while True:
            while self.queue:
                self.run(self.queue.popleft())
            if self.ended:
                return
            with self.reading:
                if not self.queue and not self.ended:
                    self.take(self.process.read())

    def take(self, lines):
        if lines is None:
            self.ended = True
            return
        for message in self.process.messages(lines):
            kind = message["type"]
            if kind == "run":
                self.queue.append(message)
            elif kind == "cancel":
                self.cancelled.add(message["run"])
                job = self.current
                if job is not None and job._message["run"] == message["run"]:
                    job.is_cancelled = True
                    if self.can_interrupt:
                        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            elif kind == "drain":
                self.ended = True

    def run(self, message):
        run = message["run"]
        if self.cancelled:
            with self.reading:
                # The others were answered before their cancellation arrived.
                self.cancelled &= {run, *(waiting["run"] for waiting in self.queue)}
        # Before the look at `sleeping`: see `watch`.
        self.count += 1
        if self.sleeping:
            self.sleeping = False
            self.awake.set()
        job = Job(message, self.process)
        try:
            try:
                self.current = job
                # If the cancellation arrived before that, `take` has only noted it.
                if run in self.cancelled:
                    raise Cancelled()
                value = self.handler(job)
                self.current = None
                line = self.process.result(run, value)
            except Exception as error:
                self.current = None
                line = self.process.result(run, error=error)
            finally:
                self.current = None
        except Cancelled:
            self.current = None
            line = self.process.result(run, error=Release())
        self.process.send(line)

    def interrupted(self, number, frame):
        if self.current is not None and self.current.is_cancelled and not self.process.is_sending:
            raise Cancelled()

    def watch(self):
        count = 0
        idle = 0
        beat = time.monotonic() + self.process.heartbeat
        while True:
            time.sleep(min(WATCH_SECONDS, self.process.heartbeat / 2))
            if self.current is None and self.count == count:
                idle += 1
                if idle > 50:
                    # Nothing has run for a while: sleep until something does.
                    self.awake.clear()
                    self.sleeping = True
                    # A job that began before `sleeping` was set wakes nobody, but it has changed the count.
                    if self.count == count:
                        self.awake.wait()
                    self.sleeping = False
                    idle = 0
                    beat = time.monotonic() + self.process.heartbeat
                continue
            idle = 0
            if self.current is None or self.count != count:
                count = self.count
                continue
            # The same job runs as the last time.
            if time.monotonic() >= beat:
                beat = time.monotonic() + self.process.heartbeat
                self.process.send(b'{"type":"heartbeat"}\n')
            if not self.ended and self.reading.acquire(blocking=False):
                try:
                    if select.select([self.process.input], [], [], 0)[0]:
                        self.take(self.process.read())
                finally:
                    self.reading.release()


def serve(handler):
    """Runs jobs with a function, one after another, until the worker ends the process."""
    _Serving(handler).serve()


class _ServingAsync:
    """Runs jobs as tasks of an event loop."""

    def __init__(self, handler, jobs):
        self.handler = handler
        self.limit = jobs
        self.process = _Process(["cancel", "heartbeat"])
        self.tasks = {}
        self.waiting = collections.deque()
        # The results of this turn of the loop. All of their jobs have ended, so they are written together.
        self.pending = []
        self.is_flushing = False
        self.done = None

    async def serve(self):
        lines = self.process.greet(self.limit)
        if lines is None:
            return
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.done = loop.create_future()
        os.set_blocking(self.process.input, False)
        loop.add_reader(self.process.input, self.read)
        beats = asyncio.ensure_future(self.beat())
        self.take(lines)
        await self.done
        loop.remove_reader(self.process.input)
        while self.waiting or self.tasks:
            self.start_waiting()
            await asyncio.wait(list(self.tasks.values()), return_when=asyncio.FIRST_COMPLETED)
        self.flush()
        beats.cancel()

    async def beat(self):
        while True:
            await asyncio.sleep(self.process.heartbeat)
            if self.tasks:
                self.process.send(b'{"type":"heartbeat"}\n')

    def read(self):
        self.take(self.process.read())

    def take(self, lines):
        if lines is None:
            self.end()
            return
        for message in self.process.messages(lines):
            kind = message["type"]
            if kind == "run":
                self.waiting.append(message)
            elif kind == "cancel":
                self.cancel(message["run"])
            elif kind == "drain":
                self.end()
        self.start_waiting()

    def end(self):
        if not self.done.done():
            self.done.set_result(None)

    def start_waiting(self):
        while self.waiting and len(self.tasks) < self.process.jobs:
            message = self.waiting.popleft()
            run = message["run"]
            task = self.loop.create_task(self.run(message))
            self.tasks[run] = task
            task.add_done_callback(functools.partial(self.finish, run))

    def cancel(self, run):
        if run in self.tasks:
            self.tasks[run].cancel()
        for message in self.waiting:
            if message["run"] == run:
                self.waiting.remove(message)
                self.add(self.process.result(run, error=Release()))
                return

    async def run(self, message):
        """Runs the job, and returns the line with its result."""
        run = message["run"]
        try:
            return self.process.result(run, await self.handler(Job(message, self.process)))
        except asyncio.CancelledError:
            return self.process.result(run, error=Release())
        except Exception as error:
            return self.process.result(run, error=error)

    def finish(self, run, task):
        """Answers a run whose task has ended, even if it was cancelled before its first step."""
        del self.tasks[run]
        if task.cancelled():
            self.add(self.process.result(run, error=Release()))
        elif task.exception() is None:
            self.add(task.result())
        else:
            # SystemExit, which ends the process.
            return
        self.start_waiting()

    def add(self, line):
        self.pending.append(line)
        if not self.is_flushing:
            self.is_flushing = True
            self.loop.call_soon(self.flush)

    def flush(self):
        self.is_flushing = False
        lines = b"".join(self.pending)
        self.pending.clear()
        self.process.send(lines)


def serve_async(handler, jobs=None):
    """Runs jobs with a coroutine function, many at once, until the worker ends the process.

    `jobs` is the most that run at once; without it, as many as the worker is configured for.
    """
    asyncio.run(_ServingAsync(handler, jobs).serve())

"""The workers. They are started, watched, and started again when they die, as a supervisor would."""

import fcntl
import os
import signal
import subprocess
import threading
import time

from schedule import LEASE, WORKERS

# How many seconds each worker's clock is off.
SKEW = {"w3": 3600, "w4": -3600}
# On a busy machine, a process younger than this may not handle signals yet.
YOUNG_SECONDS = 3
# These workers reach the server through the proxy, the others directly.
PROXIED = {"w2", "w4"}

CONFIGURATION = """\
queues: [default]
concurrency: 20
lease: {lease}s
shutdown_grace: 3s
log_level: trace
log_format: json
handlers:
  chaos.work: &rules
    swift: {{}}
    timeout: 2s
    keep_results: 1h
    retry: {{ max_attempts: 3, base: 100ms, cap: 1s }}
    circuit: off
  chaos.killer: *rules
  chaos.limited:
    swift: {{}}
    timeout: 2s
    keep_results: 1h
    limits: {{ concurrency: 1 }}
    circuit: off
  chaos.ordered:
    swift: {{}}
    timeout: 2s
    keep_results: 1h
    order: $.key
    circuit: off
  chaos.call:
    swift: {{}}
    timeout: 5s
    keep_results: 1h
    retry: {{ max_attempts: 20, base: 500ms, cap: 2s }}
    circuit: {{ consecutive_failures: 5, open_for: 1s, open_cap: 2s, probes: 2, successes_to_close: 2, ramp: 1s }}
  chaos.host:
    swift: {{}}
    timeout: 5s
    keep_results: 1h
    retry: {{ max_attempts: 20, base: 500ms, cap: 2s }}
    circuit:
      {{ key: $.host, consecutive_failures: 1, open_for: 1s, open_cap: 2s, probes: 1, successes_to_close: 1, ramp: 1s }}
  chaos.exec:
    exec:
      command: [{job}]
      environment: {{ CHAOS_NOTES: "{notes}", CHAOS_WORKER: {name} }}
      max_output: 64KiB
      kill_after: 500ms
    timeout: 10s
    keep_results: 1h
    retry: {{ max_attempts: 3, base: 100ms, cap: 1s }}
    circuit: off
"""


class Worker:
    """One place for a worker, and the process that runs in it."""

    def __init__(self, name, fleet):
        self.name = name
        self.fleet = fleet
        self.directory = os.path.join(fleet.directory, name)
        os.makedirs(self.directory)
        self.log = os.path.join(self.directory, "log")
        self.notes = os.path.join(self.directory, "notes")
        self.skew = SKEW.get(name, 0)
        self.process = None
        self.start_at = 0.0
        # Cleared while the log is not read. It matters only if the log is a pipe.
        self.is_read = threading.Event()
        self.is_read.set()
        self.reader = None
        # The signal that was sent to end the present process, if there was one.
        self.told_to_end = None
        # Whether the process had only just started when it got that signal.
        self.is_young = False
        self.started = 0.0
        with open(self.configuration, "w") as file:
            file.write(CONFIGURATION.format(lease=int(LEASE), job=fleet.exec_job, notes=self.notes, name=name))

    @property
    def configuration(self):
        return os.path.join(self.directory, "worker.yaml")

    def start(self):
        environment = dict(
            os.environ,
            DATABASE_URL=self.fleet.proxied_url if self.name in PROXIED else self.fleet.url,
            CHAOS_NOTES=self.notes,
            CHAOS_WORKER=self.name,
            CHAOS_OUTAGE=self.fleet.outage,
            CHAOS_SECONDS_AHEAD=str(self.skew),
            # A crash report would break up the lines of the log.
            SWIFT_BACKTRACE="enable=no",
        )
        if self.skew:
            environment["LD_PRELOAD"] = self.fleet.skew
        with self.open_log() as log:
            self.process = subprocess.Popen(
                [self.fleet.agent, "run", "--config", self.configuration, "--name", self.name],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.started = time.monotonic()
        self.fleet.history.write("started", worker=self.name, pid=self.process.pid)

    def open_log(self):
        """Opens the process's log: the file, or a pipe that is copied into the file."""
        if not self.fleet.pipes_logs:
            return open(self.log, "a")
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        self.reader = threading.Thread(target=self.read_log, args=(read,), daemon=True)
        self.reader.start()
        return open(write, "w")

    def read_log(self, pipe):
        with open(pipe, "rb", buffering=0) as source, open(self.log, "ab") as log:
            while self.is_read.wait() and (piece := source.read(1 << 16)):
                log.write(piece)

    def signal(self, number):
        if self.process is not None and self.process.poll() is None:
            self.fleet.history.write("signal", worker=self.name, signal=signal.Signals(number).name)
            self.process.send_signal(number)
            if number in (signal.SIGTERM, signal.SIGKILL):
                self.told_to_end = number
                self.is_young = time.monotonic() - self.started < YOUNG_SECONDS

    def watch(self):
        """Records a death, and starts the next process when it is time."""
        if self.process is not None and (status := self.process.poll()) is not None:
            self.fleet.history.write("died", worker=self.name, pid=self.process.pid, status=status)
            if status not in self.allowed_endings():
                self.fleet.wrong.append(f"{self.name} ended with status {status}; see its log")
            self.process = None
            self.told_to_end = None
            self.start_at = time.monotonic() + 0.3
        if self.process is None and time.monotonic() >= self.start_at:
            self.start()

    def allowed_endings(self):
        """The allowed statuses: as told, aborted by a job, or no database reachable at the start."""
        return self.endings_as_told() | {-signal.SIGABRT, -signal.SIGTRAP, -signal.SIGILL, 69}

    def endings_as_told(self):
        # A signal kills a process that does not handle signals yet.
        term = {0, -signal.SIGTERM} if self.is_young else {0}
        return {signal.SIGTERM: term, signal.SIGKILL: {-signal.SIGKILL}, None: set()}[self.told_to_end]


class Fleet:
    """All workers, under one supervisor."""

    def __init__(self, agent, directory, url, proxied_url, exec_job, skew, history, pipes_logs):
        self.agent, self.directory, self.url, self.proxied_url = agent, directory, url, proxied_url
        self.exec_job, self.skew, self.history = exec_job, skew, history
        self.pipes_logs = pipes_logs
        # While this file exists, the dependency of chaos.call is down. A file with `-` and the name of a group of hosts
        # appended makes that group be down.
        self.outage = os.path.join(directory, "outage")
        self.workers = {name: Worker(name, self) for name in WORKERS}
        self.stopping = threading.Event()
        # Violations by workers.
        self.wrong = []
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.supervise, daemon=True)

    def start(self):
        self.thread.start()

    def supervise(self):
        while not self.stopping.wait(0.05):
            with self.lock:
                for worker in self.workers.values():
                    worker.watch()

    def signal(self, name, number):
        with self.lock:
            self.workers[name].signal(number)

    def pids(self):
        """The ids of the running processes."""
        with self.lock:
            return [worker.process.pid for worker in self.workers.values() if worker.process is not None]

    def stop(self):
        """Drains all workers. Returns all violations since the start."""
        self.stopping.set()
        self.thread.join()
        for worker in self.workers.values():
            worker.watch()
            worker.signal(signal.SIGTERM)
        for worker in self.workers.values():
            if worker.process is None:
                continue
            try:
                if (status := worker.process.wait(30)) not in worker.endings_as_told():
                    self.wrong.append(f"{worker.name} ended with status {status} after SIGTERM, instead of 0")
            except subprocess.TimeoutExpired:
                self.wrong.append(f"{worker.name} had not ended 30 s after SIGTERM")
                worker.process.kill()
                worker.process.wait()
            self.history.write("died", worker=worker.name, pid=worker.process.pid, status=worker.process.returncode)
            if worker.reader is not None:
                worker.reader.join()
        return self.wrong

    def kill(self):
        """Kills all workers."""
        self.stopping.set()
        for worker in self.workers.values():
            if worker.process is not None and worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

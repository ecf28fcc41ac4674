"""Reads the records of all clients, each in a file of its own, and the database's final state into one history."""

import glob
import json
import os
import time
from dataclasses import dataclass, field
from datetime import datetime


class Journal:
    """Records the actions and observations of the harness itself."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)

    def write(self, event, **fields):
        self.file.write(json.dumps({"t": time.time(), "e": event, **fields}) + "\n")


@dataclass
class Run:
    """One run of a handler. It ended with its own record or with its process. `how` is None without a record."""

    n: int
    job: int
    attempt: int
    lease: int
    worker: str
    pid: int
    probe: bool
    start: float
    end: float = float("inf")
    how: str = None


@dataclass
class Settled:
    """One result that a worker got an answer for: it was recorded or, if stale, changed nothing."""

    time: float
    job: int
    lease: int
    outcome: str
    stale: bool


@dataclass
class History:
    """All records of a run."""

    # By number: the jobs that were sent, the ids in the answers, and the jobs without an answer.
    sent: dict = field(default_factory=dict)
    enqueued: dict = field(default_factory=dict)
    unanswered: set = field(default_factory=set)
    enqueued_at: dict = field(default_factory=dict)
    # The keys of ordered jobs, by number.
    keys: dict = field(default_factory=dict)
    runs: list = field(default_factory=list)
    settled: list = field(default_factory=list)
    # The (job, lease) pairs in the answers to claims.
    claimed: set = field(default_factory=set)
    # The database's final state, by job id.
    jobs: dict = field(default_factory=dict)
    dead_letters: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    # Workers that the database considered lost, as (name, time).
    losses: list = field(default_factory=list)
    transitions: list = field(default_factory=list)
    # Jobs whose runs failed in rounds of probes that closed their circuit.
    charged_probes: set = field(default_factory=set)
    heard: list = field(default_factory=list)
    # Kinds for which workers have suspended themselves.
    suspended: set = field(default_factory=set)
    # From the journal: faults (kind, start, end), and (worker, pid, time) of processes that ended.
    faults: list = field(default_factory=list)
    deaths: list = field(default_factory=list)
    # (worker, time) of those that were ended by SIGKILL.
    kills: list = field(default_factory=list)


def lines(path):
    """Yields the events of a file. An incomplete last line is skipped."""
    if not os.path.exists(path):
        return
    with open(path, errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(event, dict):
                yield event


def read(directory, skew, sql):
    """Reads the files under `directory`, and the database through `sql`. Workers' clocks are `skew` seconds ahead."""
    history = History()
    read_client(history, os.path.join(directory, "client"))
    read_journal(history, os.path.join(directory, "journal"))
    for path in sorted(glob.glob(os.path.join(directory, "w*", "notes"))):
        read_notes(history, path)
    for path in sorted(glob.glob(os.path.join(directory, "w*", "log"))):
        read_log(history, path, skew.get(os.path.basename(os.path.dirname(path)), 0.0))
    read_database(history, sql, os.path.join(directory, "database"))
    deaths = {pid: time for _, pid, time in history.deaths}
    for run in history.runs:
        # A handler ends with its worker's process at the latest.
        run.end = min(run.end, deaths.get(run.pid, float("inf")))
    return history


def read_client(history, path):
    for event in lines(path):
        n = event.get("n")
        match event["e"]:
            case "sent":
                payload = json.loads(event["payload"])
                history.sent[n] = payload["what"]
                if "key" in payload:
                    history.keys[n] = payload["key"]
            case "enqueued":
                history.enqueued[n] = event["job"]
                history.enqueued_at[event["job"]] = event["t"]
            case "unanswered":
                history.unanswered.add(n)
            case "heard":
                history.heard.append(event["news"].removeprefix("circuit:"))


def read_journal(history, path):
    for event in lines(path):
        match event["e"]:
            case "fault_over":
                started = [f for f in history.faults if f[0] == event["kind"] and f[2] is None]
                if started:
                    started[0][2] = event["t"]
            case "fault":
                history.faults.append([event["kind"], event["t"], None])
            case "died":
                history.deaths.append((event["worker"], event["pid"], event["t"]))
                if event["status"] == -9:
                    history.kills.append((event["worker"], event["t"]))


def read_notes(history, path):
    running = {}
    for event in lines(path):
        key = (event["job"], event["lease"], event["attempt"], event["pid"])
        if event["e"] == "start":
            fields = {name: event[name] for name in ("n", "job", "attempt", "lease", "worker", "pid")}
            running[key] = Run(**fields, probe=bool(event["probe"]), start=event["t"])
            history.runs.append(running[key])
        elif key in running:
            running[key].end = event["t"]
            running[key].how = event["how"]


def read_log(history, path, skew):
    for event in lines(path):
        if event.get("label") == "breakwater.circuits" and " suspends itself for " in event.get("msg", ""):
            history.suspended.add(event["kind"])
        if event.get("msg") not in ("claimed", "settled"):
            continue
        at = datetime.fromisoformat(event["ts"]).timestamp() - skew
        stale = {int(job) for job in event.get("stale", [])}
        for entry in event["jobs"]:
            job, lease, *outcome = entry.split("/")
            if outcome:
                history.settled.append(Settled(at, int(job), int(lease), outcome[0], int(job) in stale))
            else:
                history.claimed.add((int(job), int(lease)))


def read_database(history, sql, dump):
    def rows(query):
        text = sql(f"select to_json(r) from ({query}) r")
        # This file is for people who read the records afterwards.
        with open(dump, "a") as file:
            file.write(text)
        return [json.loads(line) for line in text.splitlines()]

    history.jobs = {
        row["id"]: row
        for row in rows(
            "select s.id, s.kind, s.attempt, s.state, s.why, (s.payload ->> 'n')::bigint as n from breakwater.job_status s"
        )
    }
    history.dead_letters = {
        row["id"]: row
        for row in rows(
            "select id, kind, reason, attempt, errors, (payload ->> 'n')::bigint as n,"
            " extract(epoch from died_at) as at from breakwater.dead_letter"
        )
    }
    history.results = {
        row["id"]: row
        for row in rows("select id, kind, result, extract(epoch from finished_at) as at from breakwater.result")
    }
    history.losses = [
        (row["name"], row["at"])
        for row in rows("select name, extract(epoch from lost_at) as at, survived, jobs from breakwater.lost_worker")
    ]
    history.transitions = rows(
        "select kind, key, generation, from_state, to_state from breakwater.circuit_transition order by id"
    )
    # A probe's failure is charged when its round closes the circuit, or at once if the round has closed it before.
    history.charged_probes = {
        row["job"]
        for row in rows(
            "select distinct r.job from breakwater.probe_result r"
            "  join breakwater.circuit_transition t"
            "    on t.kind = r.kind and t.key = r.key and t.generation = r.generation + 1"
            " where t.to_state = 'closed' and r.outcome = 'unavailable' and not r.is_pending"
        )
    }

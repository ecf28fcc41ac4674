"""Scenarios: which faults, when, for how long. A pure function of the scenario's name, the length and the seed."""

import random
from dataclasses import dataclass

WORKERS = ["w1", "w2", "w3", "w4"]
# A worker that is silent for this long loses its jobs.
LEASE = 4.0


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what it does, what it acts on, and how long it lasts (0 means that it is over at once)."""

    name: str
    # Faults that act on the same thing do not overlap.
    acts_on: str
    shortest: float
    longest: float
    text: str


KINDS = {
    kind.name: kind
    for kind in [
        Kind("kill", "worker", 0, 0, "kill -9 of a worker; it is started again"),
        Kind("pause", "worker", LEASE * 1.3, LEASE * 1.8, "SIGSTOP of a worker past its lease, then SIGCONT"),
        Kind("blink", "worker", LEASE * 0.3, LEASE * 0.6, "SIGSTOP of a worker for less than its lease, then SIGCONT"),
        Kind("term", "worker", 0, 0, "SIGTERM of a worker in the middle of its work; it is started again"),
        Kind("terminate", "server", 2, 4, "pg_terminate_backend of a session, ten times a second"),
        Kind("crash", "server", 0.5, 3, "Postgres stopped immediately, and started again"),
        Kind("restart", "server", 0.5, 3, "Postgres stopped fast, and started again"),
        Kind("away", "server", LEASE, LEASE * 3, "Postgres stopped for longer than a lease, and started again"),
        Kind("connections", "server", 2, 4, "every connection of the server taken, the workers' cut"),
        Kind("timeouts", "server", 2, 4, "statement and lock timeouts of a few milliseconds, tables locked on and off"),
        Kind("disk", "server", 2, 4, "the disk under the data directory full"),
        Kind("rows", "rows", 3, 6, "rows of handlers, circuits and lanes deleted, jobs made ready and moved by UPDATE"),
        Kind("bombs", "rows", 0, 0, "jobs whose payloads are too long for any worker, among the others"),
        Kind("policies", "rows", 2, 4, "circuits' policies changed in the table, back and forth"),
        Kind("limits", "workers", 3, 6, "no descriptors left for the workers, nor (unless root) processes"),
        Kind("log", "workers", 4, 8, "logs of workers that nobody reads, over pipes of a page"),
        Kind(
            "keys", "dependency", 4, 6, "a thousand hosts of one kind that are dead, and five that are so only briefly"
        ),
        Kind("slow", "network", 2, 4, "a network that delays each packet by up to 200 ms"),
        Kind("resets", "network", 2, 4, "connections reset after some random bytes"),
        Kind("blackhole", "network", 2, 4, "connections silent for ever after some random bytes, new ones too for now"),
        Kind("unanswered", "network", 2, 4, "answers dropped with their connections, those to COMMIT among them"),
        Kind("outage", "dependency", 3, 6, "what the jobs of one kind call is down"),
        Kind("killer", "jobs", 0, 0, "a job that aborts the process which runs it"),
    ]
}

SCENARIOS = {
    "calm": ([], "no fault at all: what the load is like by itself"),
    **{kind.name: ([kind.name], kind.text) for kind in KINDS.values()},
    "deaths": (["away", "kill"], "Postgres away for longer than a lease, while workers are killed"),
    "workers": (["kill", "pause", "blink", "term"], "what befalls worker processes"),
    "server": (["terminate", "crash", "restart", "connections", "timeouts"], "what befalls Postgres"),
    "network": (["slow", "resets", "blackhole", "unanswered"], "what befalls the network between them"),
    "mixed": (
        [name for name in KINDS if name not in ("disk", "bombs", "policies", "limits", "log", "keys", "away")],
        "most of these, several at once",
    ),
}


@dataclass(frozen=True)
class Fault:
    """One fault of a schedule."""

    kind: str
    start: float
    duration: float
    # The worker it acts on, if the kind acts on one.
    target: str
    # The seed of the fault's own random numbers.
    seed: int

    def __str__(self):
        lasts = f"for {self.duration:.1f} s" if self.duration else ""
        target = self.target if KINDS[self.kind].acts_on == "worker" else ""
        return f"{self.start:7.1f} s  {self.kind:<12} {target:<3} {lasts}".rstrip()


def schedule(scenario, seconds, seed):
    """The faults of a run. A single kind comes often enough to measure recovery, and seldom enough for recovery."""
    names, _ = SCENARIOS[scenario]
    dice = random.Random(f"{scenario} {seed}")
    faults, busy_until = [], {}
    # The load gets going in the first seconds. The last fault is over when the load ends.
    time = 3.0
    while names:
        free = [name for name in names if busy_until.get(KINDS[name].acts_on, 0) <= time]
        kind = KINDS[dice.choice(free or names)]
        duration = round(dice.uniform(kind.shortest, kind.longest), 1)
        fault = Fault(kind.name, round(time, 1), duration, dice.choice(WORKERS), dice.randrange(1 << 30))
        gap = dice.uniform(LEASE * 2.5, LEASE * 3.5) if len(names) == 1 else dice.uniform(0.5, 3.5)
        if free:
            if time + duration > seconds:
                break
            faults.append(fault)
            busy_until[kind.acts_on] = time + duration + 0.5
        time += gap + (duration if len(names) == 1 else 0)
        if time > seconds:
            break
    return faults

"""Measures one peer: see --help. Prints one JSON object.

The database is the peer's own and holds nothing else. Workers run in processes of their own, and each run of a handler
is counted under its job's number, so that a job that is lost or runs twice shows.
"""

import argparse
import asyncio
import importlib
import json
import multiprocessing
import sys
import time
from importlib.metadata import version

from peer import Peer

# The module and the class of each, and what pip installs for it; the first package's version is the peer's.
PEERS = {
    "breakwater": ("breakwater_peer", "Breakwater", ["asyncpg"]),
    "procrastinate": ("procrastinate_peer", "Procrastinate", ["procrastinate", "psycopg[binary]"]),
    "pgqueuer": ("pgqueuer_peer", "PgQueuerPeer", ["pgqueuer[asyncpg]"]),
    "awa-pg": ("awa_peer", "Awa", ["awa-pg"]),
}
LOOK_SECONDS = 0.02
PORTION = 1000
START_SECONDS = 60  # How long a worker may take to run its first job.


def load(name: str) -> type[Peer]:
    module, peer, _ = PEERS[name]
    return getattr(importlib.import_module(module), peer)


def run(main):
    """On uvloop where it is there, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


# --- Workers


class Runs:
    """How often each job ran, and when it first began; shared by all processes."""

    def __init__(self, jobs: int):
        context = multiprocessing.get_context("spawn")
        self.counts = context.Array("B", jobs, lock=False)
        self.started = context.Array("d", jobs, lock=False)
        # One for each process, which alone writes it.
        self.totals = context.Array("q", 64, lock=False)

    @property
    def total(self) -> int:
        return sum(self.totals)

    @property
    def repeated(self) -> int:
        return sum(count - 1 for count in self.counts if count > 1)


def work(name: str, url: str, runs: Runs, process: int) -> None:
    def ran(number: int) -> None:
        if not runs.counts[number]:
            runs.started[number] = time.monotonic()
        runs.counts[number] += 1
        runs.totals[process] += 1

    run(load(name)(url).work(ran))


def feed(name: str, url: str, runs: Runs, jobs: int, backlog: int) -> None:
    """Adds jobs while others run, and keeps a backlog of one to two times `backlog`."""

    async def main() -> None:
        async with load(name)(url).opened() as peer:
            fed = 0
            while fed < jobs:
                if fed - runs.total < 2 * backlog - PORTION:
                    await peer.enqueue_many(range(fed, min(jobs, fed + PORTION)))
                    fed += PORTION
                else:
                    await asyncio.sleep(0.005)

    run(main())


class Processes:
    """Processes that are ended with the block."""

    def __init__(self):
        self.context = multiprocessing.get_context("spawn")
        self.all = []

    def start(self, target, *arguments) -> None:
        process = self.context.Process(target=target, args=arguments, daemon=True)
        process.start()
        self.all.append(process)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_) -> None:
        for process in self.all:
            process.terminate()
        for process in self.all:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()

    def check(self) -> None:
        for process in self.all:
            if process.exitcode:
                sys.exit(f"a process of the peer ended with status {process.exitcode}")


# --- What is measured


async def fill(name: str, url: str, jobs: int, limit: float) -> dict:
    """Adds jobs, fewer when the time is over before."""
    filled = 0
    end = time.monotonic() + limit
    async with load(name)(url).opened() as peer:
        while filled < jobs and time.monotonic() < end:
            portion = range(filled, min(jobs, filled + PORTION))
            await peer.enqueue_many(portion)
            filled = portion.stop
    return {"jobs": filled}


async def watch(peer: Peer, processes: Processes, runs: Runs, jobs: int, limit: float) -> list[tuple[float, int]]:
    """Looks at the runs until all jobs are finished or the time is over: (seconds, runs) from the first run on."""
    samples: list[tuple[float, int]] = []
    begin = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        processes.check()
        now, total = time.monotonic(), runs.total
        if total:
            samples.append((now, total))
            if now - samples[0][0] > limit:
                return samples
        elif now - begin > START_SECONDS:
            sys.exit("no job ran within a minute")
        # Their ends are committed after the last has run.
        if total >= jobs and not await peer.left():
            return samples


def rate(samples: list[tuple[float, int]]) -> float:
    (first_time, first), (last_time, last) = samples[0], samples[-1]
    return (last - first) / (last_time - first_time) if last_time > first_time else 0.0


def tenths(samples: list[tuple[float, int]]) -> list[float]:
    """The rate of each tenth of the runs."""
    first, last = samples[0][1], samples[-1][1]
    edges = [
        next(i for i, (_, runs) in enumerate(samples) if runs >= first + (last - first) * tenth / 10)
        for tenth in range(11)
    ]
    return [rate(samples[a : b + 1]) if a < b else 0.0 for a, b in zip(edges, edges[1:])]


def figures_of(samples, runs: Runs, jobs: int) -> dict:
    parts = tenths(samples)
    return {
        "jobs": jobs,
        "runs": runs.total,
        "repeated": runs.repeated,
        "jobs_per_second": rate(samples),
        "tenths_jobs_per_second": parts,
        "last_tenth_to_first": parts[-1] / parts[0] if parts[0] else None,
    }


async def drain(name: str, url: str, jobs: int, limit: float) -> dict:
    """The jobs are there already."""
    runs = Runs(jobs)
    async with load(name)(url).opened() as peer:
        with Processes() as processes:
            for process in range(peer.processes):
                processes.start(work, name, url, runs, process)
            samples = await watch(peer, processes, runs, jobs, limit)
        return figures_of(samples, runs, jobs)


async def churn(name: str, url: str, jobs: int, limit: float, backlog: int) -> dict:
    """Jobs are added while others run."""
    runs = Runs(jobs)
    async with load(name)(url).opened() as peer:
        with Processes() as processes:
            processes.start(feed, name, url, runs, jobs, backlog)
            for process in range(peer.processes):
                processes.start(work, name, url, runs, process)
            samples = await watch(peer, processes, runs, jobs, limit)
        return figures_of(samples, runs, jobs)


async def enqueue(name: str, url: str, clients: int, batch: int, seconds: float) -> dict:
    added = 0

    async def client(peer: Peer, end: float) -> None:
        nonlocal added
        while time.monotonic() < end:
            if batch == 1:
                await peer.enqueue(added)
            else:
                await peer.enqueue_many(range(batch))
            added += batch

    async with load(name)(url).opened() as peer:
        await peer.enqueue(0)
        begin = time.monotonic()
        await asyncio.gather(*(client(peer, begin + seconds) for _ in range(clients)))
        return {"jobs": added, "jobs_per_second": added / (time.monotonic() - begin)}


async def latency(name: str, url: str, jobs: int, interval: float) -> dict:
    """From the commit of a job to the start of its handler, while nothing else is there to do."""
    runs = Runs(jobs + 1)
    committed: list[float] = []
    async with load(name)(url).opened() as peer:
        with Processes() as processes:
            processes.start(work, name, url, runs, 0)
            await peer.enqueue(jobs)
            begin = time.monotonic()
            while not runs.total:
                processes.check()
                if time.monotonic() - begin > START_SECONDS:
                    sys.exit("no job ran within a minute")
                await asyncio.sleep(LOOK_SECONDS)
            # Until it has found its queue empty and waits.
            await asyncio.sleep(1)
            following = time.monotonic()
            for number in range(jobs):
                following += interval
                await asyncio.sleep(max(0, following - time.monotonic()))
                await peer.enqueue(number)
                committed.append(time.monotonic())
            end = time.monotonic() + 10
            while runs.total < jobs + 1 and time.monotonic() < end:
                await asyncio.sleep(LOOK_SECONDS)
    # A handler that started before this process heard of the commit waited for nothing.
    waits = sorted(max(0.0, started - at) * 1000 for at, started in zip(committed, runs.started) if started)
    if not waits:
        sys.exit("none of the jobs ran")

    def at(share: float) -> float:
        return waits[min(len(waits) - 1, int(len(waits) * share))]

    return {
        "count": len(waits),
        "lost": jobs - len(waits),
        "p50_ms": at(0.50),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1),
    }


def describe(name: str) -> dict:
    package = PEERS[name][2][0].split("[")[0]
    return {"package": package, "version": version(package), "settings": load(name).settings}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures one peer in an empty database of its own.")
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument(
        "what", choices=["packages", "describe", "install", "fill", "drain", "churn", "enqueue", "latency"]
    )
    parser.add_argument("--database", default="", help="its URL")
    parser.add_argument("--jobs", type=int, default=1000, help="how many jobs (all but enqueue)")
    parser.add_argument("--limit", type=float, default=60, help="stop after so many seconds (fill, drain, churn)")
    parser.add_argument("--backlog", type=int, default=1000, help="how many jobs wait at least (churn)")
    parser.add_argument("--clients", type=int, default=1, help="how many add jobs at once (enqueue)")
    parser.add_argument("--batch", type=int, default=1, help="jobs in a transaction (enqueue)")
    parser.add_argument("--seconds", type=float, default=5, help="for how long (enqueue)")
    parser.add_argument("--interval", type=float, default=0.02, help="seconds from one job to the next (latency)")
    given = parser.parse_args()
    name, url = given.peer, given.database
    match given.what:
        case "packages":
            # It must do without them.
            print(*PEERS[name][2], sep="\n")
            return
        case "describe":
            figures = describe(name)
        case "install":
            figures = run(load(name)(url).install())
        case "fill":
            figures = run(fill(name, url, given.jobs, given.limit))
        case "drain":
            figures = run(drain(name, url, given.jobs, given.limit))
        case "churn":
            figures = run(churn(name, url, given.jobs, given.limit, given.backlog))
        case "enqueue":
            figures = run(enqueue(name, url, given.clients, given.batch, given.seconds))
        case "latency":
            figures = run(latency(name, url, given.jobs, given.interval))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

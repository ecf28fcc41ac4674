"""One run: the load, the faults, the drain, the verdict. Started by scripts/chaos, which brings the server."""

import argparse
import os
import sys
import time

import checker
import history
import recovery
from faults import Faults
from fleet import Fleet
from load import Load
from proxy import Proxy
from schedule import SCENARIOS, schedule
from server import Server

HERE = os.path.dirname(os.path.abspath(__file__))
# If no job ends for this long, the remaining jobs are stuck. Poison takes longest: three workers are lost, each after a
# lease, and a quarantine follows.
DRAIN_SECONDS = 120
LONGEST_DRAIN_SECONDS = 900
LEFT = """
    (select format('job %s, %s, attempt %s: %s', s.id, s.kind, s.attempt, s.why) from breakwater.job_status s limit 20)
    union all
    select format('the circuit %s %s is %s: %s', c.kind, c.key, c.state, c.reason) from breakwater.circuit c"""


def say(text=""):
    print(text, flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenario", choices=list(SCENARIOS), default="mixed")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=60)
    for name in ("agent", "skew", "directory", "binaries", "postgres", "port"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--no-disk", action="store_true")
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


def main():
    options = arguments()
    if options.list:
        for name, (_, text) in SCENARIOS.items():
            say(f"{name:<12} {text}")
        return 0
    plan = schedule(options.scenario, options.seconds, options.seed)
    say(f"scenario {options.scenario}, {options.seconds:.0f} s, seed {options.seed}")
    say(f"again: scripts/chaos --scenario {options.scenario} --seconds {options.seconds:.0f} --seed {options.seed}")
    say("the faults:")
    for fault in plan:
        say(f"  {fault}")
    if options.no_disk and any(fault.kind == "disk" for fault in plan):
        say("skipped: a small file system of its own for the data could not be mounted here, so no disk can be filled")
        plan = [fault for fault in plan if fault.kind != "disk"]
    say("the clocks of w3 and w4 are an hour ahead and behind; w2, w4 and the client are behind the network's faults")
    say()

    server = Server(options.binaries, options.postgres, options.port)
    proxy = Proxy(int(options.port))
    proxied_url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
    journal = history.Journal(os.path.join(options.directory, "journal"))
    fleet = Fleet(
        options.agent,
        options.directory,
        server.url,
        proxied_url,
        os.path.join(HERE, "exec-job"),
        options.skew,
        journal,
        pipes_logs=any(fault.kind == "log" for fault in plan),
    )
    load = Load(options.agent, proxied_url, os.path.join(options.directory, "client"), options.seed, options.rate)
    try:
        errors, seconds = work(options, plan, server, fleet, load, Faults(fleet, server, proxy, load, journal))
        skew = {worker.name: worker.skew for worker in fleet.workers.values()}
        return verdict(history.read(options.directory, skew, server.sql), errors, seconds)
    finally:
        fleet.kill()


def work(options, plan, server, fleet, load, faults):
    """Runs the load and the faults, and ends the workers. Returns the errors, and how long the remaining jobs took."""
    fleet.start()
    load.start()
    start = time.monotonic()
    faults.run(plan, start)
    time.sleep(max(0, start + options.seconds - time.monotonic()))
    load.stop()
    drained = moved = time.monotonic()
    least = float("inf")
    while left := int(server.sql("select count(*) from breakwater.job")):
        if left < least:
            least, moved = left, time.monotonic()
        if time.monotonic() > min(moved + DRAIN_SECONDS, drained + LONGEST_DRAIN_SECONDS):
            break
        time.sleep(0.2)
    seconds = time.monotonic() - drained
    if left > 0:
        # This reads the state of the jobs now, because no worker can show it after its end.
        say("left, while the workers still run:")
        for line in server.sql(LEFT).splitlines():
            say(f"    {line}")
    return faults.errors + fleet.stop(), seconds


def verdict(seen, errors, seconds):
    """Prints the verdict. Returns the exit status."""
    dead = {}
    for letter in seen.dead_letters.values():
        dead[letter["reason"]] = dead.get(letter["reason"], 0) + 1
    say(f"enqueued     {len(seen.enqueued)} acknowledged, {len(seen.unanswered)} never answered")
    say(f"ran          {len(seen.runs)} times, {sum(run.how is None for run in seen.runs)} of them without an end")
    say(
        f"ended        {len(seen.results)} succeeded; dead letters: {dead or 'none'}; {seconds:.0f} s after the last came"
    )
    say(f"refused      {sum(s.stale for s in seen.settled)} stale results changed nothing")
    say(f"workers      {len(seen.losses)} times taken for lost; {len(seen.transitions)} transitions of circuits")
    say()
    if found := recovery.recoveries(seen):
        for line in recovery.table(found):
            say(line)
        say()
    broken = {"carried out": errors} | checker.check(seen)
    for rule, wrong in broken.items():
        say(f"{rule:<34} {len(wrong)}")
        for text in wrong[:10]:
            say(f"    {text}")
    holds = not any(broken.values())
    say()
    say("the promise holds" if holds else "THE PROMISE IS BROKEN")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

"""Checks a history against the delivery promise: at least once, never lost, never stuck, stale owners refused."""

from collections import defaultdict

from recovery import recoveries

# Classes of outcomes that end a job.
ENDINGS = {"succeeded", "discarded"}
# Clocks are read on either side of an event, and logs are rounded.
SLACK = 0.05
# Jobs that need only a worker.
INDEPENDENT = {"work", "fail", "discard", "snooze"}
# Jobs must end again this soon after a fault is over, in seconds.
LONGEST_PAUSE = 30
# The jobs of a process that died are given back within this time, in seconds, also if the server is away meanwhile.
LONGEST_SILENCE = 45


def check(history):
    """Returns the rules, each with the list of its violations, which is empty if it holds."""
    return {
        "lost": lost(history),
        "not ended": not_ended(history),
        "ended twice": ended_twice(history),
        "ran after its end": ran_after_end(history),
        "ran without being enqueued": ran_uninvited(history),
        "ran twice at once without a loss": overlaps(history),
        "more at once than the limit": limits(history),
        "an ordered key's jobs out of order": orders(history),
        "claimed by nobody and run": unclaimed(history),
        "attempts wrongly charged": attempts(history),
        "dead for a wrong reason": wrong_reasons(history),
        "circuit's history broken": circuits(history),
        "taken for lost in an outage": outages(history),
        "carried on too late": pauses(history),
        "starved": starved(history),
    }


def lost(history):
    """Finds acknowledged jobs that are nowhere at the end."""
    return [
        f"job {job} (number {n}, {history.sent.get(n)}) was enqueued and is nowhere"
        for n, job in history.enqueued.items()
        if job not in history.jobs and job not in history.dead_letters and job not in history.results
    ]


def not_ended(history):
    """Finds jobs that are left over, though there was time and nothing stood in their way."""
    return [f"job {job}, {row['kind']}, is still {row['state']}: {row['why']}" for job, row in history.jobs.items()]


def ended_twice(history):
    places = [
        f"job {job} is in more than one place at the end"
        for job in {*history.jobs, *history.dead_letters, *history.results}
        if (job in history.jobs) + (job in history.dead_letters) + (job in history.results) > 1
    ]
    ends = defaultdict(int)
    for settled in history.settled:
        if settled.outcome in ENDINGS and not settled.stale:
            ends[settled.job] += 1
    return places + [f"the end of job {job} was acknowledged {count} times" for job, count in ends.items() if count > 1]


def ran_after_end(history):
    ended = {s.job: s.time for s in history.settled if s.outcome in ENDINGS and not s.stale}
    return [
        f"job {run.job} ran at {run.start:.3f} ({run.worker}), after its end was acknowledged"
        for run in history.runs
        if run.job in ended and run.start > ended[run.job] + SLACK
    ]


def ran_uninvited(history):
    """Finds runs of jobs that were never enqueued, or whose id differs from the one that their enqueuer got."""
    wrong = []
    for run in history.runs:
        if run.n in history.enqueued:
            if history.enqueued[run.n] != run.job:
                wrong.append(f"number {run.n} was enqueued as {history.enqueued[run.n]}, and ran as {run.job}")
        elif run.n not in history.unanswered:
            wrong.append(f"number {run.n} ran as {run.job} and was never enqueued")
    return wrong


def overlaps(history):
    """Finds two runs of one job at once, if the first one's worker was not considered lost in between."""
    wrong = []
    for job, runs in by_job(history).items():
        for earlier, later in zip(runs, runs[1:]):
            if later.start >= earlier.end - SLACK:
                continue
            excused = any(
                name == earlier.worker and earlier.start - SLACK <= at <= later.start + SLACK
                for name, at in history.losses
            )
            if not excused:
                wrong.append(
                    f"job {job} ran from {earlier.start:.3f} to {earlier.end:.3f} on {earlier.worker} and from"
                    f" {later.start:.3f} on {later.worker}, and {earlier.worker} was not lost in between"
                )
    return wrong


def owned_until(history, run):
    """When a run ended or, if that was earlier, its worker was considered lost."""
    losses = (at for name, at in history.losses if name == run.worker and at >= run.start - SLACK)
    return min([run.end, *losses])


def limits(history):
    """Finds runs under the limit of one job at once that began while another one's worker owned its job."""
    wrong = []
    runs = sorted((run for run in history.runs if history.sent.get(run.n) == "limited"), key=lambda run: run.start)
    for place, later in enumerate(runs):
        for earlier in runs[:place]:
            if earlier.job != later.job and later.start < owned_until(history, earlier) - SLACK:
                wrong.append(
                    f"job {later.job} ran from {later.start:.3f} on {later.worker} while job {earlier.job} ran on"
                    f" {earlier.worker} until {owned_until(history, earlier):.3f}"
                )
    return wrong


def orders(history):
    """Finds runs of an ordered key that overlap, or that began after a later job of the key had begun."""
    wrong = []
    by_key = defaultdict(list)
    for run in history.runs:
        # A job without an answer may have been committed late.
        if run.n in history.keys and run.n in history.enqueued:
            by_key[history.keys[run.n]].append(run)
    for key, runs in by_key.items():
        runs.sort(key=lambda run: run.start)
        for earlier, later in zip(runs, runs[1:]):
            if later.job < earlier.job:
                wrong.append(f"{key}: job {later.job} began at {later.start:.3f}, after job {earlier.job} had begun")
            elif later.job != earlier.job and later.start < owned_until(history, earlier) - SLACK:
                wrong.append(f"{key}: job {later.job} began at {later.start:.3f} while job {earlier.job} ran")
    return wrong


def unclaimed(history):
    """Finds runs under a lease that no worker got from a claim."""
    return [
        f"job {run.job} ran under the lease {run.lease}, which no claim was answered with"
        for run in history.runs
        if run.lease and (run.job, run.lease) not in history.claimed
    ]


def attempts(history):
    """Checks each run's number. It says how many runs before it were charged: those settled as failures, and no others.

    If a worker died before it got an answer, its result may or may not be recorded. Both are accepted."""
    answers = defaultdict(list)
    for settled in history.settled:
        answers[settled.job, settled.lease].append(settled)
    wrong = []
    for job, runs in by_job(history).items():
        least = most = 0
        for run in runs:
            if not run.lease:
                break
            if not least <= run.attempt - 1 <= most:
                wrong.append(
                    f"job {job} ran as attempt {run.attempt} under the lease {run.lease}, after"
                    f" {least if least == most else f'{least} to {most}'} charged ones"
                )
            heard = answers[job, run.lease]
            if heard:
                # A stale answer may belong to a repeated settle. The first one was recorded, and its answer was lost.
                least += any(is_charged(answer.outcome, run) and not answer.stale for answer in heard)
                most += any(is_charged(answer.outcome, run) for answer in heard)
                # The probe's round is judged later, so the charge may come when no worker holds the job.
                most += run.probe and job in history.charged_probes and any(a.outcome == "unavailable" for a in heard)
            else:
                most += may_be_charged(history, run)
        letter = history.dead_letters.get(job)
        knows_leases = all(run.lease for run in runs)
        if letter and letter["reason"] == "exhausted" and knows_leases and not least <= letter["attempt"] <= most:
            wrong.append(f"job {job} died after {letter['attempt']} attempts, of which {least} to {most} were charged")
    return wrong


def is_charged(outcome, run):
    return outcome in ("failed", "discarded") or (outcome == "unavailable" and not run.probe)


def may_be_charged(history, run):
    """Whether a run without an answer to its settle may have been charged. A cancelled run may have exceeded its
    timeout. A run without an end died with its worker. A probe is charged when its round closed the circuit."""
    if run.how == "unavailable" and run.probe:
        return run.job in history.charged_probes
    return run.how in ("failed", "discarded", "cancelled", "unavailable")


def wrong_reasons(history):
    """Finds dead letters with a reason that their kind of job may not have."""
    allowed = {
        "fail": {"exhausted"},
        "discard": {"discarded"},
        "hang": {"exhausted"},
        "deaf": {"exhausted"},
        "abort": {"poison"},
    }
    wrong = []
    for job, letter in history.dead_letters.items():
        if letter["n"] is None and letter["reason"] == "unreadable":
            continue
        what = history.sent.get(letter["n"])
        if letter["reason"] not in allowed.get(what, set()) and not is_misjudged(history, job, letter):
            wrong.append(f"job {job} ({what}) died, {letter['reason']}: {letter['errors'][-1:]}")
    for job, result in history.results.items():
        if result["kind"] == "chaos.killer":
            wrong.append(f"job {job} kills whoever runs it, and succeeded")
    return wrong


def is_misjudged(history, job, letter):
    """Whether a fault ended the process that ran a suspect alone, before the process could report that it lived. This
    cannot be distinguished from a suspect that ended its process."""
    last = max((run for run in history.runs if run.job == job), key=lambda run: run.lease, default=None)
    return (
        letter["reason"] == "poison"
        and last is not None
        and any(pid == last.pid and last.start <= time <= letter["at"] for _, pid, time in history.deaths)
    )


def circuits(history):
    """Finds gaps between a circuit's transitions, and announced transitions that are not in its history."""
    wrong = []
    chains = defaultdict(list)
    for row in history.transitions:
        chains[row["kind"], row["key"]].append(row)
    for (kind, key), rows in chains.items():
        for earlier, later in zip(rows, rows[1:]):
            # The circuit of a key without jobs was deleted, and later created again.
            if key and later["generation"] == 2 and later["from_state"] == "closed":
                continue
            if later["generation"] != earlier["generation"] + 1 or later["from_state"] != earlier["to_state"]:
                wrong.append(f"circuit {kind} {key}: {earlier} was followed by {later}")
    # If a worker suspends itself for a kind, the notification has the same form.
    known = {kind for kind, _ in chains} | history.suspended
    wrong += [f"a transition of {kind} was announced and is not written down" for kind in {*history.heard} - known]
    return wrong


def outages(history):
    """Finds workers that were considered lost, though only the server was away and no worker of that name was killed."""
    kinds = {kind for kind, _, _ in history.faults}
    if not kinds or kinds - {"away", "crash", "restart", "kill"}:
        return []
    # Each process that was killed explains one loss.
    kills, wrong = sorted(history.kills, key=lambda kill: kill[1]), []
    for name, at in sorted(history.losses, key=lambda loss: loss[1]):
        reason = next((k for k in kills if k[0] == name and at - LONGEST_SILENCE <= k[1] <= at), None)
        if reason is None:
            wrong.append(f"{name} at {at:.3f}")
        else:
            kills.remove(reason)
    return wrong


def pauses(history):
    """Finds faults after which no job ended for a long time."""
    return [
        f"{kind}: the first job ended {first:.1f} s after it was over"
        for kind, times in recoveries(history).items()
        for first, _ in times
        if first > LONGEST_PAUSE
    ]


def starved(history):
    """Finds independent jobs that waited too long for their first run, with no fault that could be the reason."""
    first = {job: runs[0].start for job, runs in by_job(history).items()}
    faults = sorted((start, end + LONGEST_PAUSE) for _, start, end in history.faults)
    # A calm period lasts from the end of one fault to the beginning of the next.
    begins, calm = float("-inf"), []
    for start, end in faults:
        calm.append((begins, start))
        begins = max(begins, end)
    calm.append((begins, float("inf")))
    wrong = []
    for n, job in history.enqueued.items():
        if history.sent.get(n) not in INDEPENDENT or job not in first:
            continue
        waited = max(min(first[job], end) - max(history.enqueued_at[job], start) for start, end in calm)
        if waited > LONGEST_PAUSE:
            wrong.append(f"job {job} waited for {waited:.1f} s for its first run, and nothing stood in its way")
    return wrong


def by_job(history):
    """Returns the runs of each job, in the order of their leases, or of their starts if they have no lease."""
    runs = defaultdict(list)
    for run in history.runs:
        runs[run.job].append(run)
    for each in runs.values():
        each.sort(key=lambda run: (run.lease, run.start))
    return runs

"""Measures recovery: from the end of each fault to the first job that ended, and until the waiting jobs had ended."""

import statistics
from collections import defaultdict


def recoveries(history):
    """For each kind of fault, a list of (seconds to the first end of a job, seconds until all waiting jobs had ended).

    Only plain jobs count, which take 200 ms at most. Jobs that fail, hang or wait on purpose are left out."""
    ends = sorted(row["at"] for row in history.results.values() if row["kind"] == "chaos.work")
    plain = [
        (history.enqueued_at[job], history.results[job]["at"])
        for n, job in history.enqueued.items()
        if history.sent.get(n) == "work" and job in history.results
    ]
    found = defaultdict(list)
    for kind, _start, end in history.faults:
        if end is None:
            continue
        first = next((at - end for at in ends if at >= end), None)
        if first is None:
            continue
        # These jobs were waiting when the fault was over.
        waiting = [ended - end for enqueued, ended in plain if enqueued <= end < ended]
        found[kind].append((first, max(waiting, default=0.0)))
    return found


def table(found):
    """The lines of a table for people."""
    lines = [f"{'fault':<14}{'times':>5}  {'first job ended after':>26}  {'caught up after':>26}"]
    for kind, times in sorted(found.items()):
        first, caught_up = zip(*times)
        lines.append(f"{kind:<14}{len(times):>5}  {summary(first):>26}  {summary(caught_up):>26}")
    return lines


def summary(seconds):
    median, most = statistics.median(seconds), max(seconds)
    return f"{median:.1f} s (at most {most:.1f} s)" if len(seconds) > 1 else f"{most:.1f} s"

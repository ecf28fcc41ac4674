"""The load: which jobs are enqueued, as a function of the seed, and the client that enqueues them."""

import json
import random
import subprocess
import threading
import time

# How many of a hundred jobs do this.
MIX = {
    ("chaos.work", "work"): 52,
    ("chaos.work", "fail"): 8,
    ("chaos.work", "discard"): 3,
    ("chaos.work", "snooze"): 6,
    ("chaos.work", "deaf"): 2,
    ("chaos.work", "hang"): 1,
    ("chaos.call", "call"): 14,
    ("chaos.limited", "limited"): 6,
    ("chaos.ordered", "ordered"): 4,
    ("chaos.exec", "work"): 1,
    ("chaos.exec", "fork"): 1,
    ("chaos.exec", "fill"): 1,
    ("chaos.exec", "eat"): 1,
}

# A slow machine has hundreds of jobs left to enqueue when the load ends.
ANSWER_SECONDS = 300


def jobs(seed):
    """Yields the number, kind and payload of one job after another, without end."""
    dice = random.Random(f"load {seed}")
    kinds, weights = list(MIX), list(MIX.values())
    number = 0
    while True:
        number += 1
        kind, what = dice.choices(kinds, weights)[0]
        longest = 2500 if what == "deaf" else 200
        payload = {"n": number, "what": what, "ms": dice.randint(1, longest)}
        if what == "fail":
            # The number of failures is beyond max_attempts or within it.
            payload["times"] = dice.choice([1, 1, 2, 99])
        if what == "ordered":
            payload["key"] = f"key{dice.randint(1, 3)}"
        yield number, kind, payload


class Load:
    """Enqueues at a steady rate. The client records the answers, and this class tells it which jobs to send."""

    def __init__(self, agent, url, notes, seed, rate):
        self.client = subprocess.Popen(
            [agent, "enqueue", url, notes], stdin=subprocess.PIPE, text=True, bufsize=1, stderr=subprocess.DEVNULL
        )
        self.jobs = jobs(seed)
        self.rate = rate
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        # Numbers of the jobs that faults enqueue.
        self.next_special = 1_000_000

    def start(self):
        self.thread.start()

    def run(self):
        due = time.monotonic()
        for number, kind, payload in self.jobs:
            if self.stopping.wait(max(0, due - time.monotonic())):
                return
            self.send(number, kind, payload)
            # If the client was stuck, the missed jobs are not sent later, because the load is steady.
            due = max(due + 1 / self.rate, time.monotonic() - 1)

    def send(self, number, kind, payload):
        with self.lock:
            try:
                self.client.stdin.write(f"{number}\t{kind}\t{json.dumps(payload)}\n")
            except BrokenPipeError:
                self.stopping.set()

    def send_killer(self):
        self.send_special("chaos.killer", {"what": "abort", "ms": 50})

    def send_special(self, kind, payload):
        """Sends a job for a fault. Returns its number."""
        with self.lock:
            self.next_special += 1
            number = self.next_special
        self.send(number, kind, {"n": number, **payload})
        return number

    def stop(self):
        """Returns once every request is answered."""
        self.stopping.set()
        self.thread.join()
        self.client.stdin.close()
        try:
            self.client.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.client.kill()
            self.client.wait()
            raise

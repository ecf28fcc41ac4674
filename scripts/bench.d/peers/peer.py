"""What the benchmark of the peers needs of a job queue. Each peer is one file that says how it does these things."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable

# The name of the queue and of the handler in each of them, and the rest of each payload: 100 bytes of JSON in all, as
# the other benchmarks have it.
NAME = "bench"
TEXT = "x" * 72


def payload(number: int) -> str:
    """A payload as JSON. The number tells one job from another."""
    return json.dumps({"number": number, "text": TEXT})


class Peer:
    """A job queue in a database of its own. The commands that call these run in processes of their own."""

    # How many processes run `work` at once.
    processes = 1
    # What was set to make it fast, each with where its documentation says so. Printed with the figures.
    settings: dict[str, str] = {}

    def __init__(self, url: str):
        self.url = url

    async def install(self) -> None:
        """Makes its schema in an empty database."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Peer"]:
        """With what `enqueue`, `enqueue_many` and `left` need."""
        yield self

    async def enqueue(self, number: int) -> None:
        """Adds one job; returns when it is committed."""
        raise NotImplementedError

    async def enqueue_many(self, numbers: range) -> None:
        """Adds jobs in the fastest way there is, all in one transaction."""
        raise NotImplementedError

    async def left(self) -> int:
        """How many jobs have not been finished, by what is committed."""
        raise NotImplementedError

    async def work(self, ran: Callable[[int], None]) -> None:
        """Runs jobs until the process is ended. The handler calls `ran` with the job's number and returns."""
        raise NotImplementedError

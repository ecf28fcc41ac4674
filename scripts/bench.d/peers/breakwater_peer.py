"""Breakwater, as an application in Python adds jobs to it. Its workers are measured by `worker bench`."""

import contextlib

import asyncpg
from peer import NAME, Peer, payload


class Breakwater(Peer):
    settings = {
        "worker": "one process at its default settings, its handler in Swift",
        "one job": "INSERT INTO breakwater.job, by asyncpg",
        "many jobs": "breakwater.enqueue_many of 1000, by asyncpg",
    }

    @contextlib.asynccontextmanager
    async def opened(self):
        async with asyncpg.create_pool(self.url, min_size=1, max_size=8) as self.pool:
            yield self

    async def enqueue(self, number: int) -> None:
        await self.pool.execute(
            "insert into breakwater.job (queue, kind, payload) values ('bench.queue1', 'bench.kind1', $1)",
            payload(number),
        )

    async def enqueue_many(self, numbers: range) -> None:
        await self.pool.execute(
            f"select count(*) from breakwater.enqueue_many('{NAME}.kind1', $1, queue => '{NAME}.queue1')",
            [payload(number) for number in numbers],
        )

"""pgqueuer: https://janbjorge.github.io/pgqueuer"""

import asyncio
import contextlib
import json
import logging

import asyncpg
from peer import NAME, Peer, payload
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries


class PgQueuerPeer(Peer):
    processes = 2
    managers = 3
    batch_size = 100
    settings = {
        "driver": 'asyncpg with uvloop, "roughly double the throughput of psycopg" (Benchmarks)',
        "processes": "2, of 3 managers each with a connection of its own; faster here than the 5 managers in one process of "
        "its own benchmark",
        "batch_size": '100; "increase when jobs are short-lived" (Performance tuning)',
        "autovacuum": "as `pgq autovac` sets it (Performance tuning)",
        "durability": "durable, as ours is",
        "many jobs": "enqueue of lists of 1000",
    }

    async def install(self) -> None:
        queries = Queries(AsyncpgDriver(await asyncpg.connect(self.url)))
        await queries.install()
        await queries.optimize_autovacuum()

    @contextlib.asynccontextmanager
    async def opened(self):
        async with asyncpg.create_pool(self.url, min_size=1, max_size=8) as self.pool:
            self.queries = Queries(AsyncpgPoolDriver(self.pool))
            yield self

    async def enqueue(self, number: int) -> None:
        await self.queries.enqueue(NAME, payload(number).encode())

    async def enqueue_many(self, numbers: range) -> None:
        await self.queries.enqueue(
            [NAME] * len(numbers), [payload(number).encode() for number in numbers], [0] * len(numbers)
        )

    async def left(self) -> int:
        return await self.pool.fetchval("select count(*) from pgqueuer where status in ('queued', 'picked')")

    async def work(self, ran) -> None:
        logging.getLogger("pgqueuer").setLevel(logging.ERROR)
        await asyncio.gather(*(self.manage(ran) for _ in range(self.managers)))

    async def manage(self, ran) -> None:
        queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(self.url)))

        @queue.entrypoint(NAME)
        async def handler(job) -> None:
            ran(json.loads(job.payload)["number"])

        await queue.run(batch_size=self.batch_size)

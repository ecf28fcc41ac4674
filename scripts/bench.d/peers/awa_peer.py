"""awa: https://github.com/hardbyte/awa"""

import asyncio
from dataclasses import dataclass

import awa
from peer import NAME, TEXT, Peer


@dataclass
class Bench:
    number: int
    text: str


class Awa(Peer):
    max_workers = 1024
    claimers = 4
    claim_batch_size = 512
    settings = {
        "storage": "queue storage, the default of 0.6",
        "max_workers": '1024 on one queue; "prefer fewer queues with larger worker pools" (Benchmarking notes)',
        "claimers": '4; "benchmark 2 or 4 before raising it further" (AsyncClient.start)',
        "claim_batch_size": "512",
        "connections": '24, "at least num_queues * 4 + 20" (Benchmarking notes)',
        "many jobs": "enqueue_many_copy of 1000 (README)",
    }

    def __init__(self, url: str):
        super().__init__(url)
        self.client = awa.AsyncClient(url, max_connections=24)

    async def install(self) -> None:
        await self.client.migrate()
        # A worker that starts on a fresh schema would do it too, but jobs are added first here.
        await self.client.install_queue_storage()

    async def enqueue(self, number: int) -> None:
        await self.client.insert(Bench(number=number, text=TEXT), queue=NAME)

    async def enqueue_many(self, numbers: range) -> None:
        await self.client.enqueue_many_copy([Bench(number=number, text=TEXT) for number in numbers], queue=NAME)

    async def left(self) -> int:
        return sum(
            one.available + one.scheduled + one.running + one.retryable
            for one in await self.client.queue_stats()
            if one.queue == NAME
        )

    async def work(self, ran) -> None:
        @self.client.task(Bench, queue=NAME)
        async def handler(job) -> None:
            ran(job.args.number)

        await self.client.start(
            [
                {
                    "name": NAME,
                    "max_workers": self.max_workers,
                    "claimers": self.claimers,
                    "claim_batch_size": self.claim_batch_size,
                }
            ]
        )
        await asyncio.Event().wait()

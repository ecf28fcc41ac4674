"""procrastinate: https://procrastinate.readthedocs.io"""

import contextlib
import logging

import procrastinate
from peer import NAME, TEXT, Peer


class Procrastinate(Peer):
    processes = 3
    concurrency = 30
    settings = {
        "processes": '3; "launch multiple workers, each using their own process" (How-to, concurrency)',
        "concurrency": "30 (How-to, concurrency)",
        "pool": '31 connections; short jobs want "as many connections as your concurrency (plus one)" (Discussions)',
        "delete_jobs": "always, so that the table stays small (How-to, delete finished jobs)",
        "psycopg": "with the compiled extension",
        "many jobs": "batch_defer_async, 1000 at once (How-to, batch defer)",
    }

    def __init__(self, url: str):
        super().__init__(url)
        # It logs two lines a job.
        logging.getLogger("procrastinate").setLevel(logging.ERROR)
        self.app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=self.concurrency + 1)
        )

    async def install(self) -> None:
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()

    @contextlib.asynccontextmanager
    async def opened(self):
        self.job = self.app.configure_task(NAME, queue=NAME)
        async with self.app.open_async():
            yield self

    async def enqueue(self, number: int) -> None:
        await self.job.defer_async(number=number, text=TEXT)

    async def enqueue_many(self, numbers: range) -> None:
        await self.job.batch_defer_async(*({"number": number, "text": TEXT} for number in numbers))

    async def left(self) -> int:
        row = await self.app.connector.execute_query_one_async(
            "select count(*) as left from procrastinate_jobs where status in ('todo', 'doing')"
        )
        return row["left"]

    async def work(self, ran) -> None:
        @self.app.task(name=NAME, queue=NAME)
        async def handler(number: int, text: str) -> None:
            ran(number)

        async with self.app.open_async():
            await self.app.run_worker_async(
                queues=[NAME], concurrency=self.concurrency, delete_jobs="always", install_signal_handlers=False
            )

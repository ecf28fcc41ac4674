"""A TCP proxy in front of Postgres that disturbs connections on demand."""

import asyncio
import contextlib
import random
import socket
import struct
import threading


class Proxy:
    """Runs in a thread of its own. The mode is None, slow, resets, blackhole or unanswered."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.mode = None
        self.dice = random.Random(0)
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        threading.Thread(target=self.run, daemon=True).start()
        self.ready.wait()

    def run(self):
        asyncio.set_event_loop(self.loop)

        async def listen():
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self.ready.set()
            await server.serve_forever()

        self.loop.run_until_complete(listen())

    def set_mode(self, mode, seed=0):
        def change():
            self.mode = mode
            self.dice = random.Random(seed)

        self.loop.call_soon_threadsafe(change)

    async def serve(self, client_reader, client_writer):
        link = Link(client_writer)
        if self.mode == "blackhole":
            # The connection is not even refused.
            await self.swallow(client_reader, link)
            return
        try:
            reader, link.server = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:
            link.reset()
            return
        await asyncio.gather(
            self.pump(client_reader, link.server, link, False), self.pump(reader, client_writer, link, True)
        )
        link.close()

    async def swallow(self, reader, link):
        try:
            while await reader.read(65536):
                pass
        except OSError:
            pass
        link.close()

    async def pump(self, reader, writer, link, is_answer):
        """Passes bytes on, disturbed according to the current mode."""
        budget, mode = None, None
        try:
            while data := await reader.read(65536):
                if self.mode != mode:
                    mode, budget = self.mode, self.dice.randrange(1, 20000)
                if link.is_dead:
                    # The connection is silent for ever, so a client that waits for an answer must give up by itself.
                    continue
                if mode == "slow":
                    await asyncio.sleep(self.dice.uniform(0, 0.2))
                elif mode is not None:
                    budget -= len(data)
                    if budget <= 0 and (mode != "unanswered" or is_answer):
                        if mode != "unanswered":
                            writer.write(data[: max(0, len(data) + budget)])
                        if mode == "blackhole":
                            link.is_dead = True
                            continue
                        link.reset()
                        return
                writer.write(data)
                await writer.drain()
            if not link.is_dead:
                writer.close()
        except OSError:
            link.reset()


class Link:
    """Both halves of one connection."""

    def __init__(self, client):
        self.client = client
        self.server = None
        self.is_dead = False

    def reset(self):
        """Resets both halves at once, without an orderly end."""
        for writer in (self.client, self.server):
            if writer is not None and (sock := writer.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    def close(self):
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()

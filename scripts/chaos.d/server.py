"""The private Postgres that scripts/chaos has started, and the operations on it."""

import os
import socket
import struct
import subprocess
import time


class Server:
    """Stops, starts and queries the server."""

    def __init__(self, binaries, directory, port):
        self.binaries, self.directory, self.port = binaries, directory, port
        self.data = os.path.join(directory, "data")
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def control(self, *words, check=True):
        command = [os.path.join(self.binaries, "pg_ctl"), *words, "--silent", "--wait", "--pgdata", self.data]
        if os.geteuid() == 0:
            # A server refuses to run as root. The owner of its files is the account that it runs as.
            owner = os.stat(self.data)
            command = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--init-groups", *command]
        environment = dict(os.environ, LC_ALL="C.UTF-8")
        return subprocess.run(
            command, cwd="/", env=environment, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).returncode

    def stop(self, mode):
        self.control("stop", "--mode", mode, "--timeout=60", check=False)

    def start(self):
        """Starts the server, with several attempts, because a crash on a full disk may need two."""
        for _attempt in range(30):
            log = os.path.join(self.directory, "log")
            if self.control("start", "--timeout=60", f"--log={log}", f"--options=-p {self.port}", check=False) == 0:
                return
            if self.control("status", check=False) == 0:
                return
        raise RuntimeError(f"Postgres did not start again; see {self.directory}/log")

    def sql(self, *statements, check=True, timeout=60):
        """Runs statements, each in a transaction of its own, and returns what they print."""
        command = ["psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]
        for statement in statements:
            command += ["--command", statement]
        # An administrator's session has no timeouts, and may use the reserved connections.
        environment = dict(
            os.environ,
            PGOPTIONS="-c statement_timeout=0 -c lock_timeout=0",
            PGCONNECT_TIMEOUT="10",
            PGAPPNAME="chaos faults",
        )
        result = subprocess.run([*command, self.url], env=environment, capture_output=True, text=True, timeout=timeout)
        if check and result.returncode != 0:
            raise RuntimeError(f"psql: {result.stderr.strip()}")
        return result.stdout

    def insist(self, *statements):
        """Runs statements that must succeed in the end, in whatever state the server is."""
        for attempt in range(100):
            try:
                return self.sql(*statements)
            except (RuntimeError, subprocess.TimeoutExpired):
                if attempt == 99:
                    raise
                time.sleep(0.1)

    def open_session(self):
        """Opens an idle session, as a bare socket. Returns None if the server has no room for it."""
        session = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        words = b"user\0postgres\0database\0postgres\0application_name\0chaos faults\0\0"
        session.sendall(struct.pack("!ii", 8 + len(words), 196608) + words)
        try:
            if session.recv(1) == b"R":
                return session
        except OSError:
            pass
        session.close()
        return None

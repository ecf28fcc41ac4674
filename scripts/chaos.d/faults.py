"""The faults. Each function causes one, waits for its duration, and undoes it."""

import os
import random
import resource
import signal
import threading
import time

from schedule import KINDS

LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
# The jobs of a host that is up again must be done within this time, whatever else is down.
HEALTHY_SECONDS = 30


class Faults:
    """Carries out a schedule."""

    def __init__(self, fleet, server, proxy, load, history):
        self.fleet, self.server, self.proxy, self.load, self.history = fleet, server, proxy, load, history
        self.threads = []
        # Faults that could not be carried out, with their errors.
        self.errors = []

    def run(self, schedule, start):
        """Starts each fault when its time has come, and returns when all are over."""
        for fault in schedule:
            time.sleep(max(0, start + fault.start - time.monotonic()))
            thread = threading.Thread(target=self.carry_out, args=(fault,), daemon=True)
            thread.start()
            self.threads.append(thread)
        for thread in self.threads:
            thread.join()

    def carry_out(self, fault):
        self.history.write("fault", kind=fault.kind, target=fault.target)
        try:
            getattr(self, fault.kind)(fault)
        except Exception as error:  # on any error, the run has not shown what it should
            self.errors.append(f"{fault.kind} at {fault.start} s could not be carried out: {error!r}")
        self.history.write("fault_over", kind=fault.kind, target=fault.target, start=fault.start)

    # Workers

    def kill(self, fault):
        self.fleet.signal(fault.target, signal.SIGKILL)

    def term(self, fault):
        self.fleet.signal(fault.target, signal.SIGTERM)

    def pause(self, fault):
        self.fleet.signal(fault.target, signal.SIGSTOP)
        time.sleep(fault.duration)
        self.fleet.signal(fault.target, signal.SIGCONT)

    blink = pause

    def limits(self, fault):
        dice = random.Random(fault.seed)
        before = {}
        for pid in self.fleet.pids():
            before[pid] = [resource.prlimit(pid, limit) for limit in LIMITS]
            used = len(os.listdir(f"/proc/{pid}/fd"))
            for limit, (_, hard), least in zip(LIMITS, before[pid], (used + dice.randint(0, 4), 1)):
                resource.prlimit(pid, limit, (least, hard))
        time.sleep(fault.duration)
        for pid in before.keys() & set(self.fleet.pids()):
            for limit, old in zip(LIMITS, before[pid]):
                resource.prlimit(pid, limit, old)

    def log(self, fault):
        workers = list(self.fleet.workers.values())
        for worker in workers:
            worker.is_read.clear()
        time.sleep(fault.duration)
        for worker in workers:
            worker.is_read.set()

    # Server

    def terminate(self, fault):
        end = time.monotonic() + fault.duration
        while time.monotonic() < end:
            self.server.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1",
                check=False,
            )
            time.sleep(0.1)

    def crash(self, fault, mode="immediate"):
        self.server.stop(mode)
        time.sleep(fault.duration)
        self.server.start()

    away = crash

    def restart(self, fault):
        self.crash(fault, "fast")

    def connections(self, fault):
        sessions = []
        end = time.monotonic() + fault.duration
        try:
            while time.monotonic() < end:
                # Every free place is taken at once, so that the workers find none.
                while (session := self.server.open_session()) is not None:
                    sessions.append(session)
                self.server.sql(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name not like 'chaos f%'"
                    " and backend_type = 'client backend' limit 3",
                    check=False,
                )
                time.sleep(0.1)
        finally:
            for session in sessions:
                session.close()

    def timeouts(self, fault):
        dice = random.Random(fault.seed)
        self.server.insist(
            "alter system set statement_timeout = '15ms'",
            "alter system set lock_timeout = '10ms'",
            "select pg_reload_conf()",
        )
        end = time.monotonic() + fault.duration
        try:
            while time.monotonic() < end:
                table = dice.choice(["job", "worker", "circuit", "claim", "leader"])
                # The previous fault may have lasted longer than planned, so the server may not be up yet.
                self.server.insist(
                    f"begin; lock table breakwater.{table}; select pg_sleep({dice.uniform(0, 0.3)}); commit"
                )
                time.sleep(dice.uniform(0, 0.3))
        finally:
            self.server.insist(
                "alter system reset statement_timeout", "alter system reset lock_timeout", "select pg_reload_conf()"
            )

    def rows(self, fault):
        end = time.monotonic() + fault.duration
        while time.monotonic() < end:
            self.server.insist(
                "delete from breakwater.handler where random() < 0.5",
                "delete from breakwater.circuit where state = 'closed' and random() < 0.5",
                "delete from breakwater.lane where random() < 0.1",
                "update breakwater.job set run_at = null where run_at < 'infinity' and random() < 0.2",
                "update breakwater.job set priority = 1 + random() * 8 where random() < 0.05",
            )
            time.sleep(0.3)

    def disk(self, fault):
        filler = os.path.join(self.server.directory, "filler")
        end = time.monotonic() + fault.duration
        try:
            while time.monotonic() < end:
                # This also fills the space that the server frees meanwhile.
                with open(filler, "ab", buffering=0) as file:
                    try:
                        while True:
                            file.write(b"\0" * (1 << 20))
                    except OSError:
                        pass
                # A new WAL segment is needed, so that the server cannot use the rest of the current one.
                self.server.sql("select pg_switch_wal()", check=False)
                time.sleep(0.1)
        finally:
            os.unlink(filler)
            self.server.start()

    # Network

    def network(self, fault):
        self.proxy.set_mode(fault.kind, fault.seed)
        time.sleep(fault.duration)
        self.proxy.set_mode(None)

    slow = resets = blackhole = unanswered = network

    # Jobs and what they depend on

    def outage(self, fault):
        with open(self.fleet.outage, "w"):
            time.sleep(fault.duration)
        os.unlink(self.fleet.outage)

    def keys(self, fault):
        dead, brief = f"{self.fleet.outage}-dead", f"{self.fleet.outage}-brief"
        with open(dead, "w"), open(brief, "w"):
            pass
        for number in range(1000):
            self.load.send_special("chaos.host", {"what": "dead", "host": f"dead{number}", "ms": 5})
        healthy = [
            self.load.send_special("chaos.host", {"what": "brief", "host": f"brief{number}", "ms": 5})
            for number in range(5)
        ]
        time.sleep(fault.duration)
        os.unlink(brief)
        numbers = ", ".join(f"'{number}'" for number in healthy)
        left = (
            f"select 5 - count(*) from breakwater.result where kind = 'chaos.host' and result #>> '{{}}' in ({numbers})"
        )
        end = time.monotonic() + HEALTHY_SECONDS
        while (waiting := int(self.server.sql(left))) and time.monotonic() < end:
            time.sleep(0.2)
        os.unlink(dead)
        if waiting:
            self.errors.append(
                f"{waiting} of 5 healthy hosts were kept waiting for {HEALTHY_SECONDS} s by 1,000 dead ones"
            )

    def bombs(self, fault):
        # Each has 2 kB in the table, and more than a gigabyte as text.
        self.server.insist(
            "insert into breakwater.job (kind, priority, payload)"
            " select 'chaos.work', 5, (select jsonb_agg('1e131071'::numeric) from generate_series(1, 9000))"
            " from generate_series(1, 3)"
        )

    def policies(self, fault):
        dice = random.Random(fault.seed)
        end = time.monotonic() + fault.duration
        try:
            while time.monotonic() < end:
                change = dice.choice(
                    [
                        "key_path = '{what}'",
                        "key_path = '{n}'",
                        "key_path = null",
                        "shared_key = 'chaos'",
                        "shared_key = null",
                        "circuit_enabled = not circuit_enabled",
                        "consecutive_failures = 1 + random() * 20",
                    ]
                )
                self.server.insist(f"update breakwater.handler set {change} where kind = 'chaos.call'")
                time.sleep(dice.uniform(0, 0.5))
        finally:
            self.server.insist(
                "update breakwater.handler set key_path = null, shared_key = null, circuit_enabled = true,"
                " consecutive_failures = 5 where kind = 'chaos.call'"
            )

    def killer(self, fault):
        self.load.send_killer()


assert all(hasattr(Faults, name) for name in KINDS)

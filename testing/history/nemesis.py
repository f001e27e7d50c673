"""The nemesis: one fault after another, each healed before the next, by a schedule that the seed decides."""

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import orjson

from testing.history.operations import Fault, History
from testing.history.stores import Faults
from testing.history.world import WORKERS, World
from testing.restartable import Restartable
from testing.waiting import wait_until

GAP = (0.5, 3.0)  # seconds between two faults
PAUSE = (1.0, 3.0)  # seconds, of a worker
DOWN = (0.0, 1.0)  # seconds, of a gateway
CALL_FAILED, OUTAGE, OVER = "a call to Redis failed", "Redis is unavailable", "Redis is available again after"
NOTICED_AFTER = 1.0  # seconds
UNFINISHED = 10.0  # seconds, of an outage whose end was not logged
LOGGED_EVERY = 60.0  # seconds; a worker logs calls that fail no more often


class Nemesis:
    """Breaks what the world consists of; `of_store` are the faults of its Redis."""

    def __init__(self, world: World, of_store: Faults, rng: Random) -> None:
        self.world, self.rng = world, rng
        self.faults: list[Callable[[], None]] = [
            self.kill_worker,
            self.pause_worker,
            self.restart_gateway,
            *of_store.values(),
        ]

    def run(self, seconds: float) -> None:
        """Break and heal for that long. Each fault comes once before one comes again."""
        deadline, left = time.monotonic() + seconds, list[Callable[[], None]]()
        while True:
            time.sleep(max(0.0, min(self.rng.uniform(*GAP), deadline - time.monotonic())))
            if time.monotonic() >= deadline:
                return
            left = left or self.rng.sample(self.faults, len(self.faults))
            left.pop()()

    def gateway(self) -> tuple[str, Restartable]:
        """Return the name of a random gateway, and the gateway."""
        return self.rng.choice(list(self.world.gateways.items()))

    def worker(self, gateway: Restartable) -> int:
        """Return the process id of a random worker."""
        return self.rng.choice(sorted(gateway.workers()))

    def kill_worker(self) -> None:
        """Kill a worker, and wait until another one has taken its place."""
        name, gateway = self.gateway()
        pid = self.worker(gateway)
        with self.world.history.fault("worker killed", name, new_workers=1):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: pid not in gateway.workers() and len(gateway.workers()) == WORKERS)

    def pause_worker(self) -> None:
        """Let a worker hang for a while."""
        name, gateway = self.gateway()
        pid = self.worker(gateway)
        with self.world.history.fault("worker paused", name):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.rng.uniform(*PAUSE))
            os.kill(pid, signal.SIGCONT)

    def restart_gateway(self) -> None:
        """Kill a whole gateway, and start it again."""
        name, gateway = self.gateway()
        with self.world.history.fault("gateway killed", name, new_workers=WORKERS):
            gateway.kill()
            time.sleep(self.rng.uniform(*DOWN))
            gateway.start()


def outages(history: History, name: str, log: Path) -> list[Fault]:
    """Return the times in which a worker of the gateway logged that it worked without Redis."""
    lines = [line for line in log.read_bytes().splitlines() if b"Redis" in line and line.startswith(b"{")]
    events = [orjson.loads(line) for line in lines]
    starts = [at(history, one) for one in events if one["event"] == OUTAGE]
    ends = [(at(history, one), length_of(one)) for one in events if one["event"].startswith(OVER)]
    found = [outage(name, end - length, end) for end, length in ends]
    for start in starts:  # without an end if the worker has died, or the node has left the cluster's masters
        if not any(abs(fault.started + NOTICED_AFTER - start) < 0.5 for fault in found):
            found.append(outage(name, start, start + UNFINISHED))
    failed = [at(history, one) for one in events if one["event"] == CALL_FAILED]
    found += [Fault("failed calls logged by a worker", name, when, when + LOGGED_EVERY, redis=True) for when in failed]
    return found


def outage(name: str, started: float, ended: float) -> Fault:
    """Return an outage; the calls that failed first had begun before it was logged."""
    return Fault("outage logged by a worker", name, started - NOTICED_AFTER, ended, redis=True)


def at(history: History, event: dict[str, Any]) -> float:
    """Return when a line was logged, in seconds of the run."""
    return datetime.fromisoformat(event["timestamp"]).timestamp() - history.epoch


def length_of(event: dict[str, Any]) -> float:
    """Return the seconds that the end of an outage names."""
    return float(event["event"].removeprefix(OVER).split()[0])

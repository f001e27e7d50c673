"""Which clients take part in a run, and how busy each is."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

from testing.history import logins, requests
from testing.history.clients import Client
from testing.history.world import OutOfPeople, World

Rounds = Callable[[Client], Iterator[None]]


@dataclass(frozen=True)
class Workload:
    """Rounds of a kind, which so many clients make; each pauses for at most so many seconds between two rounds."""

    name: str
    rounds: Rounds
    clients: int
    pause: float


def again(make: Callable[[Client], None]) -> Rounds:
    """Return rounds of one call each."""

    def rounds(client: Client) -> Iterator[None]:
        while True:
            make(client)
            yield

    return rounds


def anew(make: Rounds) -> Rounds:
    """Return rounds that begin anew, with another user, when they have ended."""

    def rounds(client: Client) -> Iterator[None]:
        while True:
            yield from make(client)

    return rounds


WORKLOADS = (
    Workload("login", again(logins.log_in_and_out), 1, 0.6),
    Workload("rotation", again(logins.rotate_alone), 1, 0.4),
    Workload("race", again(logins.rotate_at_once), 2, 0.4),
    Workload("logout", again(logins.use_and_log_out), 1, 0.6),
    Workload("lock", again(logins.lock_somebody), 1, 1.0),
    Workload("ended", again(logins.try_ended), 2, 0.1),
    Workload("session", anew(requests.write_sessions), 2, 0.2),
    Workload("key", anew(requests.post_with_keys), 2, 0.3),
    Workload("limited", again(requests.ask_limited), 1, 0.3),
    Workload("crowd", again(requests.ask_all_at_once), 1, 1.0),
)


@contextlib.contextmanager
def busy_clients(world: World, seed: int) -> Iterator[None]:
    """Keep all clients busy until the block ends; raise the first error of a client, which is one of this program."""
    clients = [
        (workload, Client(f"{workload.name}-{number}", world, Random(f"{seed} {workload.name} {number}")))
        for workload in WORKLOADS
        for number in range(1, workload.clients + 1)
    ]
    with ThreadPoolExecutor(len(clients)) as threads:
        running: list[Future[None]] = [threads.submit(run, *one) for one in clients]
        try:
            yield
        finally:
            world.stop.set()
        for client in running:
            client.result()


def run(workload: Workload, client: Client) -> None:
    """Make the client's rounds until the run is over, or nobody is left to take part."""
    with contextlib.suppress(OutOfPeople):
        for _ in workload.rounds(client):
            if not client.pause(workload.pause):
                return

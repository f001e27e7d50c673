"""Many requests at once, spread evenly over all workers of a gateway: one volley, or a fire that does not stop."""

import contextlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from testing.gateway import Gateway
from testing.http.client import RawClient, request_bytes
from testing.http.messages import Message

LIVE = request_bytes("GET", "/api/v1/meta/health/live")
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Shot:
    """A request of a hammer: what was asked of whom, and what came of it, when (seconds of the monotonic clock)."""

    name: str
    worker: int
    started: float
    ended: float
    outcome: str


def api(method: str, path: str, data: object = None, *fields: str, token: str = "", key: str = "") -> bytes:
    """Return a request below /api/v1."""
    credentials = [f"Authorization: Bearer {token}"] * bool(token) + [f"X-API-Key: {key}"] * bool(key)
    body = b"" if data is None else json.dumps(data).encode()
    kind = ["Content-Type: application/json"] * bool(body)
    return request_bytes(method, f"/api/v1{path}", *credentials, *kind, *fields, body=body)


def outcome(answer: Message) -> str:
    """Return the code of an error of ours, such as `2003`, else the status."""
    of_ours = answer.status >= 400 and answer.header("Content-Type") == "application/json"
    return answer.code if of_ours else str(answer.status)


def outcomes(answers: Iterable[Message]) -> Counter[str]:
    """Return how many answers there are of each kind."""
    return Counter(outcome(answer) for answer in answers)


def workers(gateway: Gateway) -> list[int]:
    """Return the process ids of the gateway's workers."""
    return children(gateway.process.pid)


def front_workers(gateway: Gateway) -> list[int]:
    """Return the process ids of the workers that clients are connected to: those of the edge, if there is one."""
    return children((gateway.nginx or gateway.process).pid)


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sockets(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process holds."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


def inodes(gateway: Gateway) -> dict[int, str]:
    """Return the inodes of this end of the clients' connections, by the port at the other end (proc_net_tcp)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [row for row in rows if int(row[1].rpartition(":")[2], 16) == gateway.port]
    return {int(row[2].rpartition(":")[2], 16): row[9] for row in ours}


@contextlib.contextmanager
def connections(gateway: Gateway, count: int) -> Iterator[list[tuple[int, RawClient]]]:
    """Yield (worker, connection) for `count` connections, the workers taking turns."""
    pids = front_workers(gateway)
    turns = [pids[index % len(pids)] for index in range(count)]
    kept: dict[int, list[RawClient]] = {pid: [] for pid in pids}
    deadline = time.monotonic() + WAIT_SECONDS
    with contextlib.ExitStack() as stack:
        # Who takes a connection is chance: a few at a time are opened until each worker has enough.
        while any(len(kept[pid]) < turns.count(pid) for pid in pids):
            assert time.monotonic() < deadline
            opened = [stack.enter_context(RawClient(gateway.port, timeout=WAIT_SECONDS)) for _ in range(4)]
            for connection in opened:
                connection.send(LIVE)
            assert all(connection.read_answer().status == 200 for connection in opened)
            ends, held = inodes(gateway), {pid: sockets(pid) for pid in pids}
            for connection in opened:
                inode = ends[connection.sock.getsockname()[1]]
                kept[next(pid for pid in pids if inode in held[pid])].append(connection)
        yield [(pid, kept[pid].pop()) for pid in turns]


def volley(gateway: Gateway, requests: Sequence[bytes]) -> list[Message]:
    """Send all requests at the same moment, each on a connection of its own; return the answers in order."""
    with connections(gateway, len(requests)) as opened:
        # Their last bytes are held back until all the rest is there.
        for (_, connection), request in zip(opened, requests, strict=True):
            connection.send(request[:-1])
        for (_, connection), request in zip(opened, requests, strict=True):
            connection.send(request[-1:])
        return [connection.read_answer() for _, connection in opened]


class Hammer:
    """What has come of a hammer's requests so far; `names` are those of its requests."""

    def __init__(self, names: Iterable[str], pids: Iterable[int]) -> None:
        self.targets = [(pid, name) for pid in pids for name in set(names)]
        self.shots: list[Shot] = []
        self.stop = threading.Event()

    def seen(self, name: str, *, after: float = 0.0) -> Counter[str]:
        """Return the outcomes of the requests of that name that started after the moment."""
        return Counter(shot.outcome for shot in list(self.shots) if shot.name == name and shot.started > after)

    def go_on(self, rounds: int) -> float:
        """Go on until each worker has answered each name that often from now on; return the time of now."""
        now = time.monotonic()
        while min(self.answered(now).values()) < rounds:
            assert not self.stop.is_set(), self.shots[-20:]
            assert time.monotonic() < now + WAIT_SECONDS, self.answered(now)
            time.sleep(0.01)
        return now

    def answered(self, after: float) -> Counter[tuple[int, str]]:
        """Return how often each worker has answered each name since the moment."""
        counts = Counter(dict.fromkeys(self.targets, 0))
        counts.update((shot.worker, shot.name) for shot in list(self.shots) if shot.started > after)
        return counts


@contextlib.contextmanager
def hammering(
    gateway: Gateway, requests: Sequence[tuple[str, bytes]], clients: int = 8, pause: float = 0.02
) -> Iterator[Hammer]:
    """Send the (name, request)s over and over, until the block ends; each client sends all of them in turn, and waits
    for `pause` seconds after each.
    """
    hammer = Hammer([name for name, _ in requests], front_workers(gateway))

    def fire(worker: int, connection: RawClient, first: int) -> None:
        try:
            for name, request in itertools.islice(itertools.cycle(requests), first, None):
                if hammer.stop.is_set():
                    return
                started = time.monotonic()
                connection.send(request)
                answer = connection.read_answer()
                hammer.shots.append(Shot(name, worker, started, time.monotonic(), outcome(answer)))
                time.sleep(pause)
        finally:
            hammer.stop.set()  # where one client fails, the others need not go on

    with connections(gateway, clients) as opened, ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(fire, *client, first) for first, client in enumerate(opened)]
        try:
            yield hammer
        finally:
            hammer.stop.set()
        for client in running:
            client.result()

"""The history of a run: what clients did, and what the nemesis broke, as JSON lines.

All times are seconds since the start of the run, by one monotonic clock.
"""

import dataclasses
import json
import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import IO, Any


class Outcome(StrEnum):
    """What a client knows of its operation. An answer that never came, or a 5xx, leaves open whether it was done."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What was done, and in brackets what its subject is."""

    LOGIN = "login"  # (family)
    USE = "use"  # of an access token (family)
    REFRESH = "refresh"  # (refresh token)
    LOGOUT = "logout"  # (family)
    LOCK = "lock"  # by staff (user)
    WRITE = "write"  # of a session or a chunk (its name)
    READ = "read"  # (the same)
    POST = "post"  # with an Idempotency-Key (the key)
    EXECUTION = "execution"  # of such a POST, as a cluster or the database knows it (the key)
    LIMITED = "limited"  # a request that a limit counts (user)


@dataclass(frozen=True)
class Operation:
    """One operation of a client at a gateway; `ended` is infinite as long as no answer has come."""

    number: int
    client: str
    kind: Kind
    subject: str
    gateway: str
    started: float
    ended: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the operation was acknowledged."""
        return self.outcome == Outcome.OK

    @property
    def refused(self) -> bool:
        """Whether the operation certainly had no effect."""
        return self.outcome == Outcome.REFUSED


@dataclass(frozen=True)
class Fault:
    """Something that the nemesis did, or an outage that a gateway has logged; healed at `ended`.

    `redis`: whether Redis was out of reach of a gateway; `data_lost`: whether Redis may have lost data; `new_workers`:
    how many processes began anew.
    """

    kind: str
    target: str
    started: float
    ended: float = math.inf
    redis: bool = False
    data_lost: bool = False
    new_workers: int = 0


@dataclass(frozen=True)
class Run:
    """How the run was made; `epoch` is the time of day (seconds since 1970) of its second 0.

    `limit` and `burst` are those of the limited requests, `workers` the processes of all gateways.
    """

    seed: int
    redis: str
    epoch: float
    limit: int
    burst: int
    workers: int


class History:
    """Writes the history while it happens. Each operation is written when it starts, and again when it has ended, so
    that a crash of the run loses none.
    """

    def __init__(self, file: IO[str]) -> None:
        self.file, self.lock, self.numbers = file, threading.Lock(), count(1)
        self.epoch, self.origin = time.time(), time.monotonic()

    def now(self) -> float:
        """Return the seconds since the start of the run."""
        return round(time.monotonic() - self.origin, 6)

    def write(self, entry: Run | Operation | Fault) -> None:
        """Append an entry as one line."""
        fields = {name: value for name, value in dataclasses.asdict(entry).items() if value != math.inf}
        line = json.dumps({"entry": type(entry).__name__, **fields})
        with self.lock:
            self.file.write(line + "\n")
            self.file.flush()

    @contextmanager
    def operation(self, client: str, kind: Kind, subject: str, gateway: str, **facts: Any) -> Iterator["Pending"]:
        """Note an operation that lasts as long as the block, which sets its outcome."""
        begun = Operation(next(self.numbers), client, kind, subject, gateway, self.now(), facts=facts)
        self.write(begun)
        pending = Pending(facts=dict(facts), subject=subject)
        try:
            yield pending
        finally:
            ended = self.now() if pending.answered else math.inf
            self.write(
                dataclasses.replace(
                    begun, ended=ended, outcome=pending.outcome, facts=pending.facts, subject=pending.subject
                )
            )

    @contextmanager
    def fault(self, kind: str, target: str, **effects: Any) -> Iterator[None]:
        """Note a fault that lasts as long as the block; `effects` are fields of `Fault`."""
        begun = Fault(kind, target, self.now(), **effects)
        self.write(begun)
        try:
            yield
        finally:
            self.write(dataclasses.replace(begun, ended=self.now()))


@dataclass
class Pending:
    """What is known so far of an operation in progress. A login names its subject when it is done."""

    subject: str
    facts: dict[str, Any]
    outcome: Outcome = Outcome.UNKNOWN
    answered: bool = False


@dataclass(frozen=True)
class Recorded:
    """A history that was read."""

    run: Run
    operations: list[Operation]
    faults: list[Fault]


def read_history(lines: Iterable[str]) -> Recorded:
    """Return the history in the lines. A half line at the end, where a crash ended the run, is left out."""
    runs: list[Run] = []
    operations: dict[int, Operation] = {}
    faults: dict[tuple[str, float], Fault] = {}
    for line in lines:
        if not line.endswith("\n"):
            break
        fields = json.loads(line)
        match fields.pop("entry"):
            case "Run":
                runs.append(Run(**fields))
            case "Fault":
                faults[fields["kind"], fields["started"]] = Fault(**fields)
            case _:
                kind, outcome = Kind(fields.pop("kind")), Outcome(fields.pop("outcome"))
                operations[fields["number"]] = Operation(kind=kind, outcome=outcome, **fields)
    return Recorded(runs[-1], list(operations.values()), list(faults.values()))


def load(path: Path) -> Recorded:
    """Return the history in the file."""
    with path.open() as lines:
        return read_history(lines)

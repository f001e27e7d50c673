"""Loads of several servers in turn, so that a slow phase of the machine affects all of them."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Aim, Figure
from benchmarks.load import Load, Target, load
from benchmarks.processes import Process, server_seconds

ROUNDS = 5


@dataclass(frozen=True)
class Server:
    """What to request from a server, and the process that is timed with its children."""

    target: Target
    process: Process


@dataclass(frozen=True)
class Run:
    """One load of a server, and the server's processor time per request, in seconds."""

    load: Load
    cost: float


Runs = Mapping[str, Sequence[Run]]


def in_turn(servers: Mapping[str, Server], *, connections: int, seconds: float, rounds: int = ROUNDS) -> Runs:
    """Load each server once in each round, after a warm-up; every second round in the opposite order."""
    for server in servers.values():
        load(server.target, connections=connections, seconds=1)
    runs: dict[str, list[Run]] = {name: [] for name in servers}
    for number in range(rounds):
        for name in servers if number % 2 == 0 else reversed(list(servers)):
            runs[name].append(_timed(servers[name], connections, seconds))
    return runs


def medians(measurement: str, runs: Runs) -> Iterator[Figure]:
    """Yield each server's requests per second, latencies and processor time per request."""
    for name, of_server in runs.items():
        yield Figure(measurement, f"{name}: requests", _median(of_server, lambda run: run.load.rate), "/s")
        yield Figure(measurement, f"{name}: p50", _median(of_server, lambda run: run.load.p50_ms), "ms")
        yield Figure(measurement, f"{name}: p99", _median(of_server, lambda run: run.load.p99_ms), "ms")
        yield Figure(measurement, f"{name}: processor time", _median(of_server, lambda run: run.cost) * 1e6, "us")


def compared(measurement: str, runs: Runs, one: str, other: str, aim: Aim | None) -> Iterator[Figure]:
    """Yield how many times as many requests `one` answers as `other`: in a second, to which a target applies, and in
    a second of its processor time, on which other work of the machine has less effect. Both are medians of the rounds'
    ratios.
    """
    pairs = list(zip(runs[one], runs[other], strict=True))
    rates = statistics.median(mine.load.rate / its.load.rate for mine, its in pairs)
    yield Figure(measurement, f"{one} / {other}", rates, "x", aim)
    costs = statistics.median(its.cost / mine.cost for mine, its in pairs)
    yield Figure(measurement, f"{one} / {other}, by processor time", costs, "x")


def total(runs: Runs, count: Callable[[Load], int]) -> int:
    """The sum of a count over all loads."""
    return sum(count(run.load) for of_server in runs.values() for run in of_server)


def _timed(server: Server, connections: int, seconds: float) -> Run:
    before = server_seconds(server.process)
    result = load(server.target, connections=connections, seconds=seconds)
    return Run(result, (server_seconds(server.process) - before) / max(1, result.requests))


def _median(runs: Sequence[Run], value: Callable[[Run], float]) -> float:
    return statistics.median(map(value, runs))

"""The effect of a cluster that never answers on requests to another cluster."""

import statistics
from collections.abc import Iterator

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.load import RunningLoad, load
from testing.http.cluster import silent_server

ROUNDS = 3
PAUSE_MS = 50  # between two requests of a connection, so that the worker is busy but not overloaded
CONNECTIONS = 16
STUCK_CONNECTIONS = 64
HUNG_PATH = "/api/v1/wallets"


def hung(bench: Bench) -> Iterator[Figure]:
    """The p99 of requests to a cluster while 64 connections wait for another that hangs, relative to the normal p99."""
    with silent_server() as port:
        gateway = bench.kit.start(Upstreams(bench.backend, tron_payment=f"http://127.0.0.1:{port}"))
        good, bad = gateway.target(GET_PATH), gateway.target(HUNG_PATH)
        load(good, connections=CONNECTIONS, seconds=1)
        normal, beside = [], []
        for _ in range(ROUNDS):
            normal.append(load(good, connections=CONNECTIONS, seconds=bench.seconds, pause_ms=PAUSE_MS))
            with RunningLoad(bad, connections=STUCK_CONNECTIONS, seconds=bench.seconds + 2, pause_ms=10 * PAUSE_MS):
                beside.append(load(good, connections=CONNECTIONS, seconds=bench.seconds, pause_ms=PAUSE_MS))
    normal_p99, beside_p99 = (statistics.median(one.p99_ms for one in runs) for runs in (normal, beside))
    yield Figure("hung", "requests that failed", sum(one.failed for one in normal + beside), aim=Aim(at_most=0))
    yield Figure("hung", "normal p99", normal_p99, "ms")
    yield Figure("hung", "p99 beside the hung cluster", beside_p99, "ms")
    yield Figure("hung", "p99 / normal p99", beside_p99 / normal_p99, "x", Aim(at_most=1.5))

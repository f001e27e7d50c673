"""1,000 requests in flight against a backend that takes a second, with two workers on two cores."""

import statistics
from collections.abc import Iterator

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.burst import Burst, burst
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Gateway, Upstreams
from benchmarks.load import load
from benchmarks.processes import LOAD_CORE, SERVER_CORE, peak_mib
from demo.launch import running_clusters

REQUESTS = 1000
ROUNDS = 3
PATIENCE_SECONDS = 30
SLOW_PATH = "/api/v1/chain/consensus/demo/slow?seconds=1"


def crowds(gateway: Gateway, *, rounds: int, patience: float) -> list[Burst]:
    """Send 1,000 concurrent slow requests in each round, after a short warm-up."""
    load(gateway.target(GET_PATH), connections=8, seconds=1)
    return [burst(gateway.target(SLOW_PATH), requests=REQUESTS, patience=patience) for _ in range(rounds)]


def in_flight(bench: Bench) -> Iterator[Figure]:
    """How many are served, how fast, and the memory that it costs each worker."""
    with running_clusters() as clusters:
        upstreams = Upstreams(clusters.blockchain_core)
        gateway = bench.kit.start(upstreams, workers=2, cores=(SERVER_CORE, LOAD_CORE))
        bursts = crowds(gateway, rounds=ROUNDS, patience=PATIENCE_SECONDS)
        peaks = [peak_mib(pid) for pid in gateway.workers()]
    yield Figure("in-flight", "requests sent", ROUNDS * REQUESTS)
    yield Figure("in-flight", "requests that failed", sum(one.failed for one in bursts), aim=Aim(at_most=0))
    yield Figure("in-flight", "p50", statistics.median(one.percentile(50) for one in bursts), "s")
    yield Figure("in-flight", "p99", statistics.median(one.percentile(99) for one in bursts), "s", Aim(at_most=1.8))
    for number, peak in enumerate(peaks, 1):
        yield Figure("in-flight", f"worker {number}: most memory", peak, "MiB", Aim(at_most=130))

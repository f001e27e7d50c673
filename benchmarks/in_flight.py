"""1,000 requests in flight against a backend that takes a second, with two workers on two cores."""

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Gateway, Upstreams
from benchmarks.load import Load, load
from benchmarks.processes import LOAD_CORE, SERVER_CORE, peak_mib
from demo.launch import running_clusters

IN_FLIGHT = 1000
SHORTEST_SECONDS = 4  # a request takes at least one
SLOW_PATH = "/api/v1/chain/consensus/demo/slow?seconds=1"


def crowd(gateway: Gateway, seconds: float) -> Load:
    """1,000 connections that each ask again as soon as they are answered."""
    return load(gateway.target(SLOW_PATH), connections=IN_FLIGHT, seconds=max(seconds, SHORTEST_SECONDS))


def in_flight(bench: Bench) -> Iterator[Figure]:
    """Whether all are served, how fast, and what it costs each worker in memory."""
    with running_clusters() as clusters:
        gateway = bench.kit.start(Upstreams(clusters.blockchain_core), workers=2, cores=(SERVER_CORE, LOAD_CORE))
        result = crowd(gateway, bench.seconds)
        peaks = [peak_mib(pid) for pid in gateway.workers()]
    yield Figure("in-flight", "requests answered", result.requests)
    yield Figure("in-flight", "requests that failed", result.failed, aim=Aim(at_most=0))
    yield Figure("in-flight", "p50", result.p50_ms / 1000, "s")
    yield Figure("in-flight", "p99", result.p99_ms / 1000, "s", Aim(at_most=1.8))
    for number, peak in enumerate(peaks, 1):
        yield Figure("in-flight", f"worker {number}: most memory", peak, "MiB", Aim(at_most=130))

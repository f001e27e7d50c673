"""A small proxied GET with one worker on one core: throughput compared with its peers, and the added latency."""

import statistics
from collections.abc import Iterator

from benchmarks import peers
from benchmarks.backends import GET_PATH, nginx_binary
from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Gateway, Upstreams
from benchmarks.load import Load, Target, load

ROUNDS = 3


def in_rounds(targets: dict[str, Target], *, connections: int, seconds: float) -> dict[str, list[Load]]:
    """Load the targets in turn, in three rounds after a warm-up, so that a slow phase of the machine affects all."""
    for target in targets.values():
        load(target, connections=connections, seconds=1)
    rounds = [
        {name: load(target, connections=connections, seconds=seconds) for name, target in targets.items()}
        for _ in range(ROUNDS)
    ]
    return {name: [one[name] for one in rounds] for name in targets}


def throughput(bench: Bench) -> Iterator[Figure]:
    """32 connections: token, revocation, lock and tier limit on every request of the gateway."""
    targets = {
        "gateway": bench.kit.start(Upstreams(bench.backend)).target(GET_PATH),
        "guide's design": peers.guide_design(bench.stage, bench.backend, bench.redis_url, GET_PATH),
        "django-revproxy": peers.revproxy(bench.stage, bench.backend, GET_PATH),
        "direct": Target(bench.backend + GET_PATH),
    }
    if nginx_binary():
        targets["nginx"] = Target(peers.nginx_proxy(bench.stage, bench.backend)[1] + GET_PATH)
    loads = in_rounds(targets, connections=32, seconds=bench.seconds)
    rates = {name: statistics.median(one.rate for one in runs) for name, runs in loads.items()}
    for name, runs in loads.items():
        yield Figure("get", f"{name}: requests", rates[name], "/s")
        yield Figure("get", f"{name}: p50", statistics.median(one.p50_ms for one in runs), "ms")
        yield Figure("get", f"{name}: p99", statistics.median(one.p99_ms for one in runs), "ms")
    failed = sum(one.failed for runs in loads.values() for one in runs)
    yield Figure("get", "requests that failed", failed, aim=Aim(at_most=0))
    for peer, aim in (("guide's design", Aim(at_least=3)), ("django-revproxy", Aim(at_least=0.9))):
        yield Figure("get", f"gateway / {peer}", rates["gateway"] / rates[peer], "x", aim)


def latency(bench: Bench) -> Iterator[Figure]:
    """1 connection: the latency that the gateway adds to a direct call of the backend."""
    gateway = bench.kit.start(Upstreams(bench.backend))
    yield from added_latency("latency", bench, gateway, p50=Aim(at_most=1.5), p99=Aim(at_most=5))


def added_latency(measurement: str, bench: Bench, gateway: Gateway, *, p50: Aim, p99: Aim) -> Iterator[Figure]:
    """Yield the latency that a gateway or an edge adds for 1 connection."""
    targets = {"through": gateway.target(GET_PATH), "direct": Target(bench.backend + GET_PATH)}
    loads = in_rounds(targets, connections=1, seconds=bench.seconds)
    p50_ms = {name: statistics.median(one.p50_ms for one in runs) for name, runs in loads.items()}
    p99_ms = {name: statistics.median(one.p99_ms for one in runs) for name, runs in loads.items()}
    failed = sum(one.failed for runs in loads.values() for one in runs)
    yield Figure(measurement, "requests that failed", failed, aim=Aim(at_most=0))
    yield Figure(measurement, "added p50", p50_ms["through"] - p50_ms["direct"], "ms", p50)
    yield Figure(measurement, "added p99", p99_ms["through"] - p99_ms["direct"], "ms", p99)

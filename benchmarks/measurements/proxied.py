"""A small proxied GET with one worker on one core: throughput compared with its peers, and the added latency."""

import statistics
from collections.abc import Iterator

from benchmarks import peers
from benchmarks.backends import GET_PATH, nginx_binary
from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
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
        targets["nginx"] = Target(peers.nginx_proxy(bench.stage, bench.backend) + GET_PATH)
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
    targets = {
        "gateway": bench.kit.start(Upstreams(bench.backend)).target(GET_PATH),
        "direct": Target(bench.backend + GET_PATH),
    }
    loads = in_rounds(targets, connections=1, seconds=bench.seconds)
    p50 = {name: statistics.median(one.p50_ms for one in runs) for name, runs in loads.items()}
    p99 = {name: statistics.median(one.p99_ms for one in runs) for name, runs in loads.items()}
    failed = sum(one.failed for runs in loads.values() for one in runs)
    yield Figure("latency", "requests that failed", failed, aim=Aim(at_most=0))
    yield Figure("latency", "added p50", p50["gateway"] - p50["direct"], "ms", Aim(at_most=1.5))
    yield Figure("latency", "added p99", p99["gateway"] - p99["direct"], "ms", Aim(at_most=5))

"""What the request explorer costs a proxied request: two gateways in one run, with the explorer on and off."""

import statistics
from collections.abc import Iterator

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.measurements.blocked import timed

ROUNDS = 9
SWITCH = {"on": {}, "off": {"EXPLORER_KEEP_HOURS": "0"}}


def explorer(bench: Bench) -> Iterator[Figure]:
    """32 connections: the processor time of a proxied request with the explorer on, relative to that with it off."""
    gateways = {name: bench.kit.start(Upstreams(bench.backend), settings=settings) for name, settings in SWITCH.items()}
    rounds = []
    for number in range(ROUNDS):
        order = list(gateways) if number % 2 else [*reversed(gateways)]  # neither is always the first
        runs = {name: timed(gateways[name], gateways[name].target(GET_PATH), bench.seconds / 2) for name in order}
        rounds.append(runs)
    for name in gateways:
        yield Figure("explorer", f"{name}: requests", statistics.median(runs[name][0].rate for runs in rounds), "/s")
        cost = statistics.median(runs[name][1] for runs in rounds)
        yield Figure("explorer", f"{name}: processor time", cost * 1e6, "us")
    failed = sum(load.failed for runs in rounds for load, _ in runs.values())
    yield Figure("explorer", "requests that failed", failed, aim=Aim(at_most=0))
    ratios = [runs["on"][1] / runs["off"][1] for runs in rounds]
    yield Figure("explorer", "on / off, processor time", statistics.median(ratios), "x", Aim(at_most=1.02))

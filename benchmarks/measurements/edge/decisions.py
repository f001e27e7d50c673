"""What a decision of the edge costs Redis."""

import statistics
from collections.abc import Iterator

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.edge import start_edge
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.load import load
from benchmarks.processes import cpu_seconds
from benchmarks.stores import redis_pid

ROUNDS = 5


def decisions(bench: Bench) -> Iterator[Figure]:
    """32 connections through the edge: the processor time of Redis for one decision, its other work included."""
    edge = start_edge(bench.kit, Upstreams(bench.backend))
    target, redis = edge.target(GET_PATH), redis_pid(bench.redis_url)
    edge.wait_until_it_decides(target)
    load(target, connections=32, seconds=1)
    runs, costs = [], []
    for _ in range(ROUNDS):
        before = cpu_seconds(redis)
        runs.append(load(target, connections=32, seconds=bench.seconds))
        costs.append((cpu_seconds(redis) - before) / runs[-1].requests)
    cost = statistics.median(costs)
    yield Figure("edge-redis", "requests that failed", sum(run.failed for run in runs), aim=Aim(at_most=0))
    yield Figure("edge-redis", "decisions", statistics.median(run.rate for run in runs), "/s")
    yield Figure("edge-redis", "processor time of Redis", cost * 1e6, "us")
    yield Figure("edge-redis", "decisions that one Redis bears", 1 / cost, "/s")

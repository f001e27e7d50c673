"""What a decision of the edge costs Redis."""

import statistics
from collections.abc import Iterator

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.edge import Edge, start_edge
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.load import Load, load
from benchmarks.processes import cpu_seconds
from benchmarks.stores import redis_pid, start_redis_cluster

ROUNDS = 5


def decisions(bench: Bench) -> Iterator[Figure]:
    """32 connections through the edge: the processor time of Redis for one decision, its other work included, on a
    single server and on a node of a Redis Cluster, in turn.
    """
    urls = {"Redis": bench.redis_url, "a cluster's node": start_redis_cluster(bench.stage)}
    edges = {name: start(bench, url) for name, url in urls.items()}
    runs: dict[str, list[tuple[Load, float]]] = {name: [] for name in urls}
    for name, url in [*urls.items()] * ROUNDS:
        before = cpu_seconds(redis_pid(url))
        run = load(edges[name].target(GET_PATH), connections=32, seconds=bench.seconds)
        runs[name].append((run, (cpu_seconds(redis_pid(url)) - before) / run.requests))
    costs = {name: statistics.median(cost for _, cost in found) for name, found in runs.items()}
    failed = sum(run.failed for found in runs.values() for run, _ in found)
    yield Figure("edge-redis", "requests that failed", failed, aim=Aim(at_most=0))
    for name, found in runs.items():
        yield Figure("edge-redis", f"decisions with {name}", statistics.median(run.rate for run, _ in found), "/s")
        yield Figure("edge-redis", f"processor time of {name}", costs[name] * 1e6, "us")
        yield Figure("edge-redis", f"decisions that {name} bears", 1 / costs[name], "/s")
    yield Figure("edge-redis", "a cluster's node / Redis, by time", costs["a cluster's node"] / costs["Redis"], "x")


def start(bench: Bench, url: str) -> Edge:
    """Start an edge on this Redis; return it when it decides."""
    edge = start_edge(bench.kit, Upstreams(bench.backend), settings={"REDIS_URL": url})
    edge.wait_until_it_decides(edge.target(GET_PATH))
    load(edge.target(GET_PATH), connections=32, seconds=1)
    return edge

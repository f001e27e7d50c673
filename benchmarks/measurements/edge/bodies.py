"""1 GiB up and 1 GiB down through the edge."""

import os
from collections.abc import Iterator

from benchmarks.backends import GET_PATH, sink
from benchmarks.bench import Bench
from benchmarks.edge import start_edge
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.measurements.bodies import against_nginx
from benchmarks.processes import LOAD_CORE


def bodies(bench: Bench) -> Iterator[Figure]:
    """Throughput relative to that of nginx without checks, and the growth of the worker's memory."""
    os.sched_setaffinity(0, {LOAD_CORE})
    with sink() as storage:
        edge = start_edge(bench.kit, Upstreams(bench.backend, storage=storage.url))
        edge.wait_until_it_decides(edge.target(GET_PATH))
        before = edge.left_to_gateway()
        yield from against_nginx(bench, "edge-bodies", "edge", edge, storage.url, aim=Aim(at_least=0.9))
        left = edge.left_to_gateway() - before
        yield Figure("edge-bodies", "requests left to the gateway", left, aim=Aim(at_most=0))

"""The cost of an idle gateway: memory per worker, and the time from its start to its first answer."""

import statistics
import time
from collections.abc import Iterator

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.load import load
from benchmarks.processes import resident_mib, stop

STARTS = 3
SETTLING_SECONDS = 2


def memory(bench: Bench) -> Iterator[Figure]:
    """The memory of an idle worker that has served requests, so that everything is loaded."""
    gateway = bench.kit.start(Upstreams(bench.backend), workers=2)
    load(gateway.target(GET_PATH), connections=8, seconds=1)
    time.sleep(SETTLING_SECONDS)
    for number, worker in enumerate(gateway.workers(), 1):
        yield Figure("memory", f"idle worker {number}", resident_mib(worker), "MiB", Aim(at_most=90))


def start(bench: Bench) -> Iterator[Figure]:
    """Seconds from the start of gunicorn to the first healthy answer, on one core; the median of three."""
    seconds = []
    for _ in range(STARTS):
        gateway = bench.kit.start(Upstreams(bench.backend))
        seconds.append(gateway.start_seconds)
        stop(gateway.process)
    yield Figure("start", "until health answers", statistics.median(seconds), "s", Aim(at_most=3))

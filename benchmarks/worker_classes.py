"""The gateway under gunicorn's worker classes: `python -m benchmarks.worker_classes`.

For each class: the throughput of one worker, 1,000 requests in flight with two, and the cost of 200 clients that send
only half a header block. Prints the table in the decision record.
"""

import argparse
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.figures import number, table
from benchmarks.gateway import Gateway, Upstreams
from benchmarks.load import Load, load
from benchmarks.measurements.in_flight import crowds
from benchmarks.measurements.proxied import in_rounds
from benchmarks.processes import LOAD_CORE, SERVER_CORE, begin_run, peak_mib, stage, stop
from demo.launch import running_clusters

CLASSES: dict[str, tuple[str, ...]] = {
    "gevent": (),
    "gthread, 64 threads": ("--worker-class", "gthread", "--threads", "64"),
    "gthread, 1,000 threads": ("--worker-class", "gthread", "--threads", "1000"),
    "sync": ("--worker-class", "sync"),
}
HEADING = (
    *("worker class", "requests/s", "p99"),
    *("200 half-sent: requests/s", "p99", "failed"),
    *("1,000 in flight: served", "p50", "p99", "most memory of a worker"),
)
HALF_SENT = 200
PATIENCE_SECONDS = 20
HALF_A_HEAD = b"GET /api/v1/meta/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Unfinished: "


@contextmanager
def half_sent(gateway: Gateway) -> Iterator[None]:
    """Hold 200 connections open that have sent half a header block."""
    parts = urlsplit(gateway.base)
    with ExitStack() as held:
        for _ in range(HALF_SENT):
            connection = held.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=5))
            connection.sendall(HALF_A_HEAD)
        time.sleep(0.5)
        yield


def one_worker(bench: Bench, names: Sequence[str]) -> dict[str, list[str]]:
    """The table cells of each class with one worker: alone, then beside connections with half a header block."""
    gateways = {name: bench.kit.start(Upstreams(bench.backend), options=CLASSES[name]) for name in names}
    targets = {name: gateway.target(GET_PATH) for name, gateway in gateways.items()}
    cells = {}
    for name, rounds in in_rounds(targets, connections=32, seconds=bench.seconds).items():
        alone = sorted(rounds, key=lambda run: run.rate)[len(rounds) // 2]
        with half_sent(gateways[name]):
            beside = load(targets[name], connections=8, seconds=bench.seconds)
        cells[name] = [*_shown(alone)[:2], *_shown(beside)]
    return cells


def two_workers(bench: Bench, options: Sequence[str]) -> list[str]:
    """The table cells of a class with two workers that handle 1,000 slow requests."""
    with running_clusters() as clusters:
        upstreams = Upstreams(clusters.blockchain_core)
        gateway = bench.kit.start(upstreams, workers=2, cores=(SERVER_CORE, LOAD_CORE), options=options)
        (result,) = crowds(gateway, rounds=1, patience=PATIENCE_SECONDS)
        memory = max(peak_mib(pid) for pid in gateway.workers())
    stop(gateway.process)
    times = [result.percentile(percent) for percent in (50, 99)]
    seconds = [f"{number(value)} s" if value < PATIENCE_SECONDS else f"> {PATIENCE_SECONDS} s" for value in times]
    return [str(len(result.served)), *seconds, f"{number(memory)} MiB"]


def _shown(run: Load) -> list[str]:
    p99 = f"{number(run.p99_ms)} ms" if run.requests else "no answer"
    return [number(run.rate), p99, str(run.failed)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of the worker classes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker_classes", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8, help="length of each load (default: %(default)g)")
    parser.add_argument("--only", nargs="+", choices=CLASSES, metavar="CLASS", help=", ".join(CLASSES))
    options = parser.parse_args(arguments)
    begin_run()
    names = options.only or list(CLASSES)
    with stage() as own:
        cells = one_worker(Bench(own, options.seconds), names)
    for name in names:
        with stage() as own:
            cells[name] += two_workers(Bench(own, options.seconds), CLASSES[name])
    print(table(HEADING, [[name, *cells[name]] for name in names]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""Runs the measurements and prints their figures with the targets: `python -m benchmarks --help`."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from benchmarks.bench import Bench
from benchmarks.figures import Figure, table
from benchmarks.measurements.blocked import blocked
from benchmarks.measurements.bodies import bodies
from benchmarks.measurements.edge.bodies import bodies as edge_bodies
from benchmarks.measurements.edge.callers import callers as edge_callers
from benchmarks.measurements.edge.decisions import decisions as edge_decisions
from benchmarks.measurements.edge.proxied import latency as edge_latency
from benchmarks.measurements.edge.proxied import throughput as edge_throughput
from benchmarks.measurements.edge.refused import refused as edge_refused
from benchmarks.measurements.explorer import explorer
from benchmarks.measurements.footprint import memory, start
from benchmarks.measurements.hung import hung
from benchmarks.measurements.in_flight import in_flight
from benchmarks.measurements.proxied import latency, throughput
from benchmarks.measurements.sessions import sessions
from benchmarks.processes import DidNotStart, begin_run, stage
from benchmarks.transfer import Broken
from demo.children import Failed
from testing.http.messages import Cut, Ended

MEASUREMENTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "get": throughput,
    "latency": latency,
    "blocked": blocked,
    "explorer": explorer,
    "in-flight": in_flight,
    "hung": hung,
    "bodies": bodies,
    "memory": memory,
    "start": start,
    "sessions": sessions,
    "edge": edge_throughput,
    "edge-latency": edge_latency,
    "edge-refused": edge_refused,
    "edge-bodies": edge_bodies,
    "edge-callers": edge_callers,
    "edge-redis": edge_decisions,
}
HEADING = ("measurement", "figure", "value", "target", "")
FAILURES = (DidNotStart, Failed, Broken, Cut, Ended, OSError, RuntimeError, subprocess.CalledProcessError)


def measure(name: str, seconds: float) -> list[Figure]:
    """Run one measurement on its own stage; return its figures."""
    print(f"{name}: {MEASUREMENTS[name].__doc__}", file=sys.stderr, flush=True)
    with stage() as own:
        return list(MEASUREMENTS[name](Bench(own, seconds)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Return status 0 if all figures meet their targets, 1 if one misses it or a measurement failed."""
    options = _arguments(arguments)
    if missing := [tool for tool in ("wrk", "taskset") if shutil.which(tool) is None]:
        print(f"benchmarks: {' and '.join(missing)} must be installed", file=sys.stderr)
        return 1
    begin_run()
    figures, failed = [], False
    for name in options.only or MEASUREMENTS:
        try:
            figures += measure(name, options.seconds)
        except FAILURES as error:
            print(f"{name}: not measured: {error}", file=sys.stderr)
            failed = True
    if options.json:
        print(json.dumps([figure.as_json() for figure in figures], indent=2))
    else:
        print(table(HEADING, [figure.cells() for figure in figures]))
    return int(failed or any(figure.verdict == "miss" for figure in figures))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--seconds", type=float, default=8, help="length of each load (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

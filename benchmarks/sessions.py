"""Lists and reads of a user's 1,000 sessions, alone in the database and among 1,000,000 of 1,000 users."""

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import IO

from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import PYTHON, environment
from benchmarks.processes import ROOT
from benchmarks.stores import start_mongod

USERS = 1000
ROUNDS = 12
DATABASES = ("sqlite", "mongodb")
SETTINGS = {"DJANGO_SETTINGS_MODULE": "lucid_gateway.settings", "LOG_LEVEL": "ERROR"}
ALONE, AMONG = "alone", "among"


def sessions(bench: Bench) -> Iterator[Figure]:
    """Lists, filters and reads of 1,000 sessions of one user's, and what they cost among 1,000 times as many."""
    for database in DATABASES:
        costs = measured(bench, database)
        for name, among in costs[AMONG].items():
            yield Figure(f"sessions, {database}", name, among, "ms")
            if not name.startswith("operators'"):  # these look at everybody's
                ratio = among / costs[ALONE][name]
                yield Figure(f"sessions, {database}", f"{name}, of the cost alone", ratio, "x", Aim(at_most=1.5))


def measured(bench: Bench, database: str) -> dict[str, dict[str, float]]:
    """Milliseconds of each request in both stores: the end of the lowest tenth, which a busy machine disturbs least;
    the stores take turns, so that it disturbs both alike.
    """
    env = environment(bench.stage, bench.redis_url) | SETTINGS
    if database == "mongodb":
        env["MONGODB_URI"] = start_mongod(bench.stage)
    taken: dict[str, dict[str, list[float]]] = {store: defaultdict(list) for store in (ALONE, AMONG)}
    with ExitStack() as ends:
        rows = {store: ends.enter_context(Rows(env, f"{database}_{store}", users)) for store, users in stores()}
        for store in [ALONE, AMONG] * ROUNDS:
            for name, milliseconds in rows[store].measure().items():
                taken[store][name] += milliseconds
    return {
        store: {name: statistics.quantiles(each, n=10)[0] for name, each in found.items()}
        for store, found in taken.items()
    }


def stores() -> Iterator[tuple[str, int]]:
    """The stores and their users."""
    yield from ((ALONE, 1), (AMONG, USERS))


class Rows:
    """A process with a filled database of its own (`benchmarks.session_rows`), once it has been entered."""

    def __init__(self, env: Mapping[str, str], name: str, users: int) -> None:
        names = {"SQLITE_PATH": env["SQLITE_PATH"].replace("gateway", name), "MONGODB_DATABASE": name}
        command = [PYTHON, "-m", "benchmarks.session_rows", str(users)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=dict(env) | names, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Rows":
        self.answer()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()

    def measure(self) -> dict[str, list[float]]:
        """Name of a request -> milliseconds of some."""
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, list[float]]:
        """The next line of JSON; raises `RuntimeError` when the process ends instead."""
        assert self.process.stdout is not None
        lines: IO[str] = self.process.stdout
        for line in iter(lines.readline, ""):
            if line.startswith("{"):
                found: dict[str, list[float]] = json.loads(line)
                return found
            print(line, end="", file=sys.stderr)
        raise RuntimeError("the sessions could not be measured")

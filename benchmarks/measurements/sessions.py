"""Lists and reads of a user's 1,000 sessions, alone in the database and among the 1,000,000 of 1,000 users."""

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
from benchmarks.gateway import environment
from benchmarks.processes import ROOT
from benchmarks.stores import start_mongod

USERS = 1000
ROUNDS = 12
DATABASES = ("sqlite", "mongodb")
SETTINGS = {"DJANGO_SETTINGS_MODULE": "lucid_gateway.settings", "LOG_LEVEL": "ERROR"}
ALONE, AMONG = "alone", "among"


def sessions(bench: Bench) -> Iterator[Figure]:
    """Lists, filters and reads of a user's 1,000 sessions, and their cost among 1,000 times as many."""
    for database in DATABASES:
        costs = measured(bench, database)
        for name, among in costs[AMONG].items():
            yield Figure(f"sessions, {database}", name, among, "ms")
            if not name.startswith("operators'"):  # these read the sessions of all users
                ratio = among / costs[ALONE][name]
                yield Figure(f"sessions, {database}", f"{name}, of the cost alone", ratio, "x", Aim(at_most=1.5))


def measured(bench: Bench, database: str) -> dict[str, dict[str, float]]:
    """The 10th percentile of each request's milliseconds in both stores: a busy machine affects it least, and affects
    both stores in the same way, because they are measured in turn.
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
    """Yield the name of each store and its number of users."""
    yield from ((ALONE, 1), (AMONG, USERS))


class Rows:
    """A process with its own filled database (`benchmarks.session_rows`), which starts on entry."""

    def __init__(self, env: Mapping[str, str], name: str, users: int) -> None:
        names = {"SQLITE_PATH": env["SQLITE_PATH"].replace("gateway", name), "MONGODB_DATABASE": name}
        command = [sys.executable, "-m", "benchmarks.session_rows", str(users)]
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
        """Return the milliseconds of several repetitions by the name of the request."""
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, list[float]]:
        """Return the next line of JSON; raise `RuntimeError` if the process ends instead."""
        assert self.process.stdout is not None
        lines: IO[str] = self.process.stdout
        for line in iter(lines.readline, ""):
            if line.startswith("{"):
                found: dict[str, list[float]] = json.loads(line)
                return found
            print(line, end="", file=sys.stderr)
        raise RuntimeError("the sessions could not be measured")

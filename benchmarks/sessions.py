"""Lists and reads of a user's 1,000 sessions, alone in the database and among 1,000,000 of 1,000 users."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping

from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import PYTHON, environment
from benchmarks.processes import ROOT, Stage
from benchmarks.stores import start_mongod

USERS = 1000
DATABASES = ("sqlite", "mongodb")


def sessions(bench: Bench) -> Iterator[Figure]:
    """Lists, filters and reads of 1,000 sessions of one user's, and what they cost among 1,000 times as many."""
    for database in DATABASES:
        costs = measured(bench.stage, store(bench, database) | environment(bench.stage, bench.redis_url))
        for name, (alone, among) in costs.items():
            yield Figure(f"sessions, {database}", name, among, "ms")
            if not name.startswith("operators'"):  # these look at everybody's
                yield Figure(
                    f"sessions, {database}", f"{name}, of the cost alone", among / alone, "x", Aim(at_most=1.5)
                )


def store(bench: Bench, database: str) -> dict[str, str]:
    """The settings for a database of its own."""
    if database == "sqlite":
        return {}
    return {"MONGODB_URI": start_mongod(bench.stage)}


def measured(stage: Stage, env: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Name of a request -> its milliseconds alone and among all; the query plans go to stderr."""
    results = stage.directory / "sessions.json"
    variables = dict(env) | {"DJANGO_SETTINGS_MODULE": "lucid_gateway.settings", "LOG_LEVEL": "ERROR"}
    command = [PYTHON, "-m", "benchmarks.session_rows", str(USERS), str(results)]
    subprocess.run(command, cwd=ROOT, env=variables, stdout=sys.stderr, check=True)
    costs: dict[str, tuple[float, float]] = json.loads(results.read_text())
    return costs

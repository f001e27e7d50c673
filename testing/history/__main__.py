"""`python -m testing.history`: clients work while a nemesis breaks servers, and a checker judges what they saw.

The exit status is 1 if a rule is broken. The history, the verdicts and the logs of the gateways stay in --out.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random

from testing.history.checker import check
from testing.history.clients import Client
from testing.history.nemesis import Nemesis, outages
from testing.history.operations import History, Kind, Recorded, Run, load
from testing.history.requests import note_executions, read_back
from testing.history.stores import running_store
from testing.history.verdicts import Verdict
from testing.history.workloads import busy_clients
from testing.history.world import BURST, GATEWAYS, LIMIT, WORKERS, World, running_world
from testing.plugin import environment
from testing.servers import running_mongod, running_redis

PEOPLE_PER_MINUTE = 500
SHOWN = 20  # operations of each violation that are printed; all are in verdicts.json
WRITES = (Kind.LOGIN, Kind.REFRESH, Kind.LOGOUT, Kind.LOCK, Kind.WRITE, Kind.POST)


def record_run(folder: Path, *, seconds: float, seed: int, redis: str, database: str = "sqlite") -> Recorded:
    """Run it for so many seconds, and return the history, which is in the folder too."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "history.jsonl"
    with path.open("w") as file, contextlib.ExitStack() as stack:
        history = History(file)
        store = stack.enter_context(running_store(redis, history, Random(f"{seed} store"), folder))
        settings = {"MONGODB_URI": stack.enter_context(running_mongod())} if database == "mongodb" else {}
        people = 50 + int(PEOPLE_PER_MINUTE * seconds / 60)
        world = stack.enter_context(running_world(history, folder, store.url, seed=seed, people=people, **settings))
        history.write(Run(seed, redis, history.epoch, LIMIT, BURST, GATEWAYS * WORKERS))
        users = [person.user for person in world.limited]
        nemesis = Nemesis(world, store.faults(users), Random(f"{seed} nemesis"))
        with busy_clients(world, seed):
            nemesis.run(seconds)
        read_all(world, Client("reader", world, Random(seed)))
        for name, gateway in world.gateways.items():
            for fault in outages(history, name, gateway.log):
                history.write(fault)
    return load(path)


def read_all(world: World, client: Client) -> None:
    """Read everything back that was written, after the last fault."""
    for session, token in world.written:
        read_back(client, session, token)
    note_executions(client)


def report(history: Recorded, verdicts: Iterable[Verdict]) -> str:
    """Return the table of the verdicts, and the operations that prove each violation."""
    operations = history.operations
    counts = Counter(str(one.outcome) for one in operations)
    faults = Counter(fault.kind for fault in history.faults)
    acknowledged = sum(one.ok for one in operations if one.kind in WRITES)
    lines = [
        f"{len(operations)} operations ({', '.join(f'{count} {name}' for name, count in sorted(counts.items()))})",
        f"{acknowledged} acknowledged writes",
        f"faults: {', '.join(f'{count} × {kind}' for kind, count in sorted(faults.items()))}",
        "",
    ]
    for verdict in verdicts:
        lines.append(f"{'holds ' if verdict.holds else 'BROKEN'}  {verdict.rule}: {verdict.text}")
        if not verdict.holds:
            lines += [f"        {as_json(one)}" for one in (*verdict.evidence[:SHOWN], *verdict.faults)]
    return "\n".join(lines) + "\n"


def as_json(entry: object) -> str:
    """Return an operation, a fault or a verdict as JSON."""
    fields = dataclasses.asdict(entry)  # type: ignore[call-overload]  # all three are dataclasses
    return json.dumps({name: None if value == math.inf else value for name, value in fields.items()})


def save(folder: Path, verdicts: Iterable[Verdict]) -> None:
    """Write the verdicts with the numbers of the operations that prove them."""
    found = [
        {"rule": one.rule, "holds": one.holds, "text": one.text, "operations": [each.number for each in one.evidence]}
        for one in verdicts
    ]
    (folder / "verdicts.json").write_text(json.dumps(found, indent=1) + "\n")


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m testing.history", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--seed", type=int, default=1, help="decides every random choice of the clients and the nemesis"
    )
    parser.add_argument("--redis", choices=["single", "sentinel", "cluster"], default="single")
    parser.add_argument("--database", choices=["sqlite", "mongodb"], default="sqlite")
    parser.add_argument("--out", type=Path, default=Path("var/history"))
    parser.add_argument("--judge", type=Path, metavar="FILE", help="judge this history again, and run nothing")
    options = parser.parse_args()
    if options.judge:
        return print_verdicts(load(options.judge), options.judge.parent)
    folder = options.out.absolute() / f"{options.redis}-{options.database}-seed-{options.seed}"
    with running_redis() as own:  # for the commands that prepare the database
        os.environ |= environment(own.url)
        history = record_run(
            folder, seconds=options.minutes * 60, seed=options.seed, redis=options.redis, database=options.database
        )
    return print_verdicts(history, folder)


def print_verdicts(history: Recorded, folder: Path) -> int:
    """Judge the history, keep the verdicts in the folder and print them; return the exit status."""
    verdicts = check(history)
    save(folder, verdicts)
    sys.stdout.write(report(history, verdicts))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())

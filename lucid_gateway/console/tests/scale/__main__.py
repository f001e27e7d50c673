"""Fills the databases, opens every page and prints what the slowest ones cost; exits with 1 if one costs too much."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from testing.plugin import environment
from testing.servers import running_mongod, running_redis


@contextlib.contextmanager
def running_servers(database: str, data: Path) -> Iterator[None]:
    """Set the environment of a test run on a database that is kept in the folder."""
    with contextlib.ExitStack() as servers:
        os.environ |= environment(servers.enter_context(running_redis()).url)
        os.environ["DJANGO_SETTINGS_MODULE"] = "lucid_gateway.settings"
        os.environ["SQLITE_PATH"] = str(data / "sqlite" / "many.sqlite3")
        (data / database).mkdir(parents=True, exist_ok=True)
        if database == "mongodb":
            os.environ["MONGODB_URI"] = servers.enter_context(running_mongod(data / database))
            os.environ["MONGODB_DATABASE"] = "many"
        yield


def main() -> int:
    parser = argparse.ArgumentParser(prog="lucid_gateway.console.tests.scale", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "mongodb"], default="sqlite")
    parser.add_argument("--rows", type=int, default=1_000_000, help="users, audit events and kept requests")
    parser.add_argument("--data", type=Path, default=Path("var/scale"), help="the folder of the filled databases")
    parser.add_argument("--fill-only", action="store_true", help="measure nothing")
    parser.add_argument("--save", type=Path, help="append the cost of each page to this file, as JSON lines")
    parser.add_argument("--only", default="", help="measure the pages whose address contains this text")
    options = parser.parse_args()
    with running_servers(options.database, options.data.absolute()):
        import django

        django.setup()
        from lucid_gateway.console.tests.scale.measuring import run

        return run(options)


if __name__ == "__main__":
    sys.exit(main())

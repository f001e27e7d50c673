"""A real gateway for tests: gunicorn with the production configuration, on a free port."""

import atexit
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis

from testing.servers import BIN, ROOT, START_SECONDS, child, folder, free_port, wait_for_port

OF_KEYS = frozenset({"SECRET_KEY", "JWT_SECRET_KEY", "JWT_ALGORITHM"})  # a database has keys that they made

databases = itertools.count(1)  # of the run's Redis
made = contextlib.ExitStack()
atexit.register(made.close)


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its address, its environment and its log."""

    port: int
    env: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Return the base of the API, such as http://127.0.0.1:1234/api/v1."""
        return f"http://127.0.0.1:{self.port}/api/v1"

    def manage(self, *arguments: str) -> str:
        """Run a management command beside the gateway and return what it printed."""
        return manage(self.env, *arguments)

    def issue_token(self, email: str) -> str:
        """Return an access token for the user."""
        token: str = json.loads(self.manage("issue_token", "--email", email, "--json"))["access_token"]
        return token

    def redis(self) -> Redis:
        """Return a client of the gateway's Redis."""
        return Redis.from_url(self.env["REDIS_URL"])

    def access_lines(self) -> list[dict[str, Any]]:
        """Return the access log's lines so far."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == "request"]


def manage(env: Mapping[str, str], *arguments: str) -> str:
    """Run manage.py and return what it printed; raise CalledProcessError."""
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(env), check=True, capture_output=True, text=True).stdout


def prepare_database(env: Mapping[str, str]) -> None:
    """Migrate the database and make the demo users."""
    manage(env, "seed_demo", "--migrate")


@cache
def prepared_database() -> Path:
    """Return an SQLite file to copy, prepared once: it would take each gateway three seconds."""
    path = Path(made.enter_context(folder())) / "db.sqlite3"
    prepare_database(os.environ | {"SQLITE_PATH": str(path)})
    return path


@contextlib.contextmanager
def running_gateway(*within: str, **settings: str) -> Iterator[Gateway]:
    """Run a migrated gateway with two workers; the keywords are its settings, over those of the test run, and `within`
    is a command that becomes the one given to it.

    It has its own database file, unless MONGODB_URI is given; demo users are there (seed_demo). Of the run's Redis it
    has a database of its own: what it does in the background, for as long as it runs, disturbs no test that looks into
    another one. Each test empties all of them.
    """
    port = free_port()
    with folder() as path:
        env = os.environ | {
            "HTTP_PORT": str(port), "WEB_CONCURRENCY": "2", "LOG_LEVEL": "INFO",
            "SQLITE_PATH": str(path / "db.sqlite3"),
            "REDIS_URL": f"{os.environ['REDIS_URL'].rpartition('/')[0]}/{next(databases)}",
        } | settings  # fmt: skip
        if "MONGODB_URI" in env or Path(env["SQLITE_PATH"]).exists() or OF_KEYS.intersection(settings):
            prepare_database(env)
        else:
            shutil.copyfile(prepared_database(), env["SQLITE_PATH"])
        command = [*within, str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]
        with child(command, path / "log", env) as process:
            wait_for_port(port, process)
            gateway = Gateway(port, env, path / "log", process)
            with urllib.request.urlopen(f"{gateway.url}/meta/health/live", timeout=START_SECONDS):
                yield gateway

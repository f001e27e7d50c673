"""A real gateway for tests: gunicorn with the production configuration, on a free port."""

import atexit
import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis

from lucid_gateway.kernel.redis_urls import is_cluster, urls_of_nodes
from testing.edge import SECRET, running_edge
from testing.manage import manage
from testing.redis_cluster import ClusterOfServers, running_redis_cluster
from testing.servers import BIN, ROOT, START_SECONDS, child, folder, free_port, wait_for_port, whole_lines
from testing.waiting import wait_until

OF_KEYS = frozenset({"SECRET_KEY", "JWT_SECRET_KEY", "JWT_ALGORITHM"})  # a database has keys that they made

PLANE = "LUCID_TEST_PLANE"  # a variable: `edge` puts an edge in front of each gateway
REDIS = "LUCID_TEST_REDIS"  # a variable: `cluster` gives each gateway a Redis Cluster of one node
databases = itertools.count(1)  # of the run's Redis
clusters: list[ClusterOfServers] = []  # those of the running gateways
made = contextlib.ExitStack()
atexit.register(made.close)


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its address, its environment and its log."""

    port: int
    env: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes]"
    edge_log: Path | None = None
    nginx: "subprocess.Popen[bytes] | None" = None
    spare_tokens: dict[str, list[str]] = field(default_factory=dict)  # by email address

    @property
    def url(self) -> str:
        """Return the base of the API, such as http://127.0.0.1:1234/api/v1."""
        return f"http://127.0.0.1:{self.port}/api/v1"

    def manage(self, *arguments: str) -> str:
        """Run a management command beside the gateway and return what it printed."""
        return manage(self.env, *arguments)

    def issue_token(self, email: str) -> str:
        """Return an access token for the user, which nobody has used."""
        if self.spare_tokens.get(email) and self.epoch_of(email) == 0:
            return self.spare_tokens[email].pop()
        token: str = json.loads(self.manage("issue_token", "--skip-checks", "--email", email, "--json"))["access_token"]
        return token

    def epoch_of(self, email: str) -> int:
        """Return the epoch of the user, before which all tokens have ended."""
        with contextlib.closing(sqlite3.connect(self.env["SQLITE_PATH"], timeout=10)) as database:
            found = database.execute("SELECT token_epoch FROM accounts_user WHERE email = ?", [email])
            epoch: int = found.fetchone()[0]
            return epoch

    def warm(self, credential: str, path: str) -> None:
        """Return when the edge, if there is one, decides this caller's requests for the path itself; the credential is
        a token or an API key.
        """
        is_key = credential.startswith("lk_")
        headers = {"X-API-Key": credential} if is_key else {"Authorization": f"Bearer {credential}"}

        def decides() -> bool:
            assert self.edge_log is not None
            before = self.edge_log.stat().st_size
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", headers=headers)):
                return self.edge_log.stat().st_size > before

        if self.edge_log is not None:
            wait_until(decides, every=0.1)  # seldom enough for callers with low limits

    def redis(self) -> Redis:
        """Return a client of the gateway's Redis, or of the first node of its cluster."""
        url = self.env["REDIS_URL"]
        return Redis.from_url(urls_of_nodes(url)[0] if is_cluster(url) else url)

    def logged(self) -> str:
        """Return the log so far, of the gateway and then of its edge, without a line that is still being written."""
        logs = [self.log, *([self.edge_log] if self.edge_log else [])]
        return "".join(whole_lines(log) for log in logs if log.exists())

    def edge_errors(self) -> str:
        """Return the error log of the edge so far, or nothing without one."""
        return "" if self.edge_log is None else whole_lines(self.edge_log.with_name("error.log"))

    def access_lines(self) -> list[dict[str, Any]]:
        """Return the access log's lines so far."""
        lines = [json.loads(line) for line in self.logged().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == "request"]


def prepare_database(env: Mapping[str, str]) -> None:
    """Migrate the database and make the demo users."""
    manage(env, "seed_demo", "--migrate")


# Tokens as those of `manage.py issue_token`, all with one command.
ISSUE_TOKENS = """
import json
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
users = User.objects.filter(email__in=["demo@lucid.test", "operator@lucid.test", "admin@lucid.test"])
print(json.dumps({user.email: [issue_tokens(user).access for _ in range(3)] for user in users}))
"""
OF_TOKENS = ("JWT_", "SECRET_KEY")  # settings on which they depend


@cache
def prepared_database() -> tuple[Path, dict[str, list[str]]]:
    """Return an SQLite file to copy and access tokens of its users, by email address. They are prepared once: it would
    take each gateway several seconds.
    """
    path = Path(made.enter_context(folder())) / "db.sqlite3"
    env = os.environ | {"SQLITE_PATH": str(path), "JWT_ACCESS_TOKEN_EXPIRE_MINUTES": "1440"}
    prepare_database(env)
    tokens: dict[str, list[str]] = json.loads(manage(env, "shell", "-c", ISSUE_TOKENS).splitlines()[-1])
    return path, tokens


def at_edge() -> bool:
    """Return whether this run puts an edge in front of each gateway."""
    return os.environ.get(PLANE) == "edge"


@contextlib.contextmanager
def running_gateway(
    *within: str, edge: bool | None = None, cache_size: str = "0", **settings: str
) -> Iterator[Gateway]:
    """Run a migrated gateway; the keywords are its settings, over those of the test run, and `within` is a command that
    becomes the one given to it.

    It has its own database file, unless MONGODB_URI is given; demo users are there (seed_demo). Of the run's Redis it
    has a database of its own: what it does in the background, for as long as it runs, disturbs no test that looks into
    another one. Each test empties all of them.

    With `edge`, by default with `--plane edge`, an edge is in front of it, with a response cache of `cache_size`.

    It has two workers, or one if the test asks for the edge: each takes a second to start.
    """
    with folder() as path, redis_of_its_own("REDIS_URL" in settings) as redis_url:
        env = os.environ | {
            "WEB_CONCURRENCY": "1" if edge else "2", "LOG_LEVEL": "INFO",
            "SQLITE_PATH": str(path / "db.sqlite3"), "REDIS_URL": redis_url,
        } | settings  # fmt: skip
        tokens: dict[str, list[str]] = {}
        if "MONGODB_URI" in env or Path(env["SQLITE_PATH"]).exists() or OF_KEYS.intersection(settings):
            prepare_database(env)
        else:
            prepared, spare = prepared_database()
            shutil.copyfile(prepared, env["SQLITE_PATH"])
            if not any(name.startswith(OF_TOKENS) for name in settings):
                tokens = {email: list(some) for email, some in spare.items()}
        edge = at_edge() if edge is None else edge
        with started(path, env, *within, edge=edge, cache_size=cache_size) as gateway:
            gateway.spare_tokens.update(tokens)
            yield gateway


@contextlib.contextmanager
def redis_of_its_own(has_one: bool) -> Iterator[str]:
    """Yield the URL of a database of the run's Redis or, with `--redis cluster`, of a cluster of one node."""
    if os.environ.get(REDIS) == "cluster" and not has_one:
        with running_redis_cluster(1) as cluster:
            clusters.append(cluster)
            yield cluster.url
            clusters.remove(cluster)
    else:
        yield f"{os.environ['REDIS_URL'].rpartition('/')[0]}/{next(databases)}"


def refusal(**settings: str) -> str:
    """Start a gateway with these settings, which must not start; return what it says."""
    env = os.environ | settings | {"HTTP_PORT": str(free_port())}
    gunicorn = [str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]
    done = subprocess.run(gunicorn, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    return done.stderr


@contextlib.contextmanager
def another(gateway: Gateway, **settings: str) -> Iterator[Gateway]:
    """Run a second gateway with the settings of the first, or those given, on its Redis and its database. It has an
    edge of its own if the first has one.
    """
    with folder() as path, started(path, {**gateway.env, **settings}, edge=gateway.nginx is not None) as second:
        yield second


@contextlib.contextmanager
def started(path: Path, env: Mapping[str, str], *within: str, edge: bool, cache_size: str = "0") -> Iterator[Gateway]:
    """Run a gateway on a free port, with its logs in the folder; its database is migrated already."""
    port = free_port()
    env = {**env, "HTTP_PORT": str(port)}
    if edge:
        env = {**env, "GATEWAY_SOCKET": str(path / "gateway.socket"), "EDGE_SECRET": SECRET}
    command = [*within, str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]
    with child(command, path / "log", env) as process, contextlib.ExitStack() as stack:
        nginx = None
        if edge:
            nginx = stack.enter_context(running_edge(path / "edge", port, env, f"--cache-size={cache_size}"))
            wait_until((path / "gateway.socket").exists, START_SECONDS)
        wait_for_port(port, process)
        edge_log = path / "edge" / "access.log" if edge else None
        gateway = Gateway(port, env, path / "log", process, edge_log, nginx)
        wait_until(lambda: is_live(gateway), START_SECONDS)
        yield gateway


def is_live(gateway: Gateway) -> bool:
    """Return whether the gateway answers; its edge says 503 while the socket between them exists without listening."""
    try:
        with urllib.request.urlopen(f"{gateway.url}/meta/health/live", timeout=START_SECONDS):
            return True
    except urllib.error.HTTPError:
        return False

"""The gateway under test: the real gunicorn with the deployed configuration, a database and a token."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.environments import gateway_environment
from benchmarks.load import Target
from benchmarks.processes import ROOT, SERVER_CORE, Process, Stage, workers_of
from demo.children import free_port

SECRET = "a-benchmark-key-that-guards-nothing-0123456789"
PLENTY = "1000000000"
HEALTH = "/api/v1/meta/health"
NO_CLUSTER = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Upstreams:
    """Base URLs of the clusters behind the gateway."""

    blockchain_core: str
    tron_payment: str = NO_CLUSTER
    storage: str = NO_CLUSTER


@dataclass(frozen=True)
class Gateway:
    """A running gateway and a token that it accepts."""

    process: Process
    base: str
    token: str
    start_seconds: float

    def target(self, path: str) -> Target:
        """A target with that path and the gateway's token."""
        return Target(self.base + path, self.token)

    def workers(self) -> list[int]:
        return workers_of(self.process)


class GatewayKit:
    """Migrates a database with demo users, and starts gateways that use it."""

    def __init__(self, stage: Stage, redis_url: str) -> None:
        self.stage, self._redis_url, self._started = stage, redis_url, 0
        self.manage("migrate", "--verbosity", "0")
        self._accounts = json.loads(self.manage("seed_demo", "--json"))
        self.token = self.token_of("user")

    def token_of(self, role: str) -> str:
        """An access token of the demo account: `user`, `operator` or `admin`."""
        issued = self.manage("issue_token", "--email", self._accounts[role], "--json")
        token: str = json.loads(issued)["access_token"]
        return token

    def start(
        self,
        upstreams: Upstreams,
        *,
        workers: int = 1,
        cores: Sequence[int] = (SERVER_CORE,),
        options: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> Gateway:
        """Start a gateway and wait until it is healthy; `options` are gunicorn's and override the configuration,
        `settings` are environment variables.
        """
        port = free_port()
        variables = {"HTTP_PORT": str(port), "WEB_CONCURRENCY": str(workers)} | dict(settings or {})
        name, process = self.launch(upstreams, cores=cores, options=options, settings=variables)
        base = f"http://127.0.0.1:{port}"
        seconds = self.stage.wait(name, process, base + HEALTH)
        return Gateway(process, base, self.token, seconds)

    def launch(
        self, upstreams: Upstreams, *, cores: Sequence[int], options: Sequence[str] = (), settings: Mapping[str, str]
    ) -> tuple[str, Process]:
        """Start a gateway without waiting for it; return its name on the stage and its process."""
        self._started += 1
        name = f"gateway-{self._started}"
        command = [_python(), "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", *options, "lucid_gateway.wsgi"]
        env = environment(self.stage, self._redis_url, upstreams) | dict(settings)
        return name, self.stage.start(name, command, cores=cores, env=env)

    def manage(self, *arguments: str, settings: Mapping[str, str] | None = None) -> bytes:
        """Run a management command and return what it printed; raise `RuntimeError` if it fails."""
        env = environment(self.stage, self._redis_url) | dict(settings or {})
        command = [_python(), "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
        if done.returncode:
            end = done.stderr.decode(errors="replace").splitlines()[-4:]
            raise RuntimeError("\n".join([f"{arguments[0]} failed:", *end]))
        return done.stdout


def _python() -> str:
    return str(gateway_environment() / "python")


def environment(stage: Stage, redis_url: str, upstreams: Upstreams = Upstreams(NO_CLUSTER)) -> dict[str, str]:
    """The settings of a gateway whose limits the load never reaches, with SQLite in the directory of the stage."""
    limits = ("", "_AUTHENTICATED", "_ADMIN", "_BLOCKCHAIN_QUERY")
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", "/"),
        "TMPDIR": str(stage.directory),
        "ENVIRONMENT": "development",
        "SSL_ENABLED": "false",
        "SECRET_KEY": SECRET,
        "JWT_SECRET_KEY": SECRET,
        "JWT_ACCESS_TOKEN_EXPIRE_MINUTES": "1440",
        "SQLITE_PATH": str(stage.directory / "gateway.sqlite3"),
        "REDIS_URL": redis_url,
        "BLOCKCHAIN_CORE_URL": upstreams.blockchain_core,
        "SESSION_MANAGEMENT_URL": NO_CLUSTER,
        "AUTH_SERVICE_URL": NO_CLUSTER,
        "TRON_PAYMENT_URL": upstreams.tron_payment,
        "STORAGE_DATABASE_URL": upstreams.storage,
        "ALLOWED_HOSTS": "127.0.0.1",
        "MAX_CONNECTIONS_PER_ADDRESS": "0",  # the whole load comes from one address
        "CORS_ORIGINS": "http://localhost:3000",
        **{f"RATE_LIMIT{tier}_REQUESTS_PER_MINUTE": PLENTY for tier in limits},
    }

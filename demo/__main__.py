"""`make run`: the gateway and everything that it needs, on this machine, until Ctrl-C.

The environment wins over every default here: `MONGODB_URI=... make run` uses that database.
"""

import argparse
import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from demo.launch import running_clusters
from lucid_gateway.env import Environment

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
START_SECONDS = 30
STOP_SECONDS = 35


class Failed(Exception):
    """Something did not start; the text says what."""


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kept_secrets(var: Path) -> dict[str, str]:
    """Return the secrets of this checkout, made on the first start and kept for the next."""
    path = var / "secrets.json"
    if not path.exists():
        made = {name: secrets.token_urlsafe(48) for name in ("SECRET_KEY", "JWT_SECRET_KEY")}
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(made, file)
    kept: dict[str, str] = json.loads(path.read_text())
    return kept


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a child: politely first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(command: list[str], **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a child in its own session, so that Ctrl-C reaches it through us alone."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        stop(process)


@contextlib.contextmanager
def running_redis(var: Path, environment: dict[str, str]) -> Iterator[str]:
    """Yield the address of Redis: the given one, or a private server that keeps its data in the folder."""
    if "REDIS_URL" in environment:
        yield environment["REDIS_URL"]
        return
    server = shutil.which("redis-server") or shutil.which("valkey-server") or str(BIN / "redis-server")
    folder = var / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "60", "1"]
    with open(folder / "redis.log", "ab") as log, running([*command, "--loglevel", "warning"], stdout=log, stderr=log):
        wait_for_port(port, "redis-server")
        yield f"redis://127.0.0.1:{port}/0"


def wait_for_port(port: int, name: str) -> None:
    """Return when something listens on the port; raise Failed after a while."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Failed(f"{name} did not start")


def manage(environment: dict[str, str], *arguments: str) -> str:
    """Run a management command and return what it printed; raise Failed if it fails."""
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def settings_for(var: Path, redis_url: str, clusters: dict[str, str]) -> dict[str, str]:
    """Return the gateway's environment: the embedded defaults, under whatever is set already."""
    defaults = {
        "ENVIRONMENT": "development",
        "SSL_ENABLED": "false",
        "API_DOCS_ENABLED": "true",
        "WEB_CONCURRENCY": "2",
        "REDIS_URL": redis_url,
        "SQLITE_PATH": str(var / "lucid_gateway.sqlite3"),
        "BLOCKCHAIN_CORE_URL": clusters["blockchain_core"],
        "SESSION_MANAGEMENT_URL": clusters["session_management"],
        "TRON_PAYMENT_URL": clusters["tron_payment"],
        **kept_secrets(var),
    }
    port = os.environ.get("HTTP_PORT", "8080")
    defaults["PUBLIC_BASE_URL"] = f"http://127.0.0.1:{port}"
    return defaults | dict(os.environ)


def write_environment(var: Path, environment: dict[str, str]) -> None:
    """Keep the settings in local.env, so that manage.py can be used beside the running gateway."""
    path = var / "local.env"
    path.touch(mode=0o600)
    names = sorted(environment.keys() & Environment.model_fields.keys())
    path.write_text("".join(f"{name}={shlex.quote(environment[name])}\n" for name in names))


def wait_until_healthy(base: str, gateway: "subprocess.Popen[bytes]") -> None:
    """Return when the gateway answers; raise Failed if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if gateway.poll() is not None:
            raise Failed("the gateway did not start; its log is above")
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{base}/api/v1/meta/health/live", timeout=2),
        ):
            return
        time.sleep(0.05)
    raise Failed("the gateway does not answer")


def welcome(var: Path, environment: dict[str, str], base: str) -> str:
    """Return what to print: the addresses, the admin's password, and three lines to paste."""
    accounts = json.loads(manage(environment, "seed_demo", "--json"))
    token = accounts["user_access_token"]
    local = os.path.relpath(var / "local.env")
    return f"""
Lucid API Gateway   {base}
  admin             {base}/admin/   {accounts["admin"]}   one-time password: {accounts["admin_password"]}
  API documents     {base}/docs
  settings          {local} (for manage.py: set -a; . {local}; set +a)

Try it (the token works for 15 minutes):

curl -s {base}/api/v1/meta/health
curl -s -H 'Authorization: Bearer {token}' {base}/api/v1/chain/info
curl -si -H 'Authorization: Bearer {token}' '{base}/api/v1/chain/blocks?limit=1'

Login codes are printed here, as mails, unless EMAIL_HOST is set. Ctrl-C stops everything.
"""


def run(var: Path) -> int:
    """Start everything, print the welcome, wait for the end."""
    var.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        redis_url = stack.enter_context(running_redis(var, dict(os.environ)))
        clusters = stack.enter_context(running_clusters())
        addresses = {
            name: getattr(clusters, name) for name in ("blockchain_core", "session_management", "tron_payment")
        }
        environment = settings_for(var, redis_url, addresses)
        write_environment(var, environment)
        manage(environment, "migrate", "--verbosity", "0")
        base = f"http://127.0.0.1:{environment.get('HTTP_PORT', '8080')}"
        command = [str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]
        gateway = stack.enter_context(running(command, env=environment))
        message = welcome(var, environment, base)
        wait_until_healthy(base, gateway)
        print(message, flush=True)
        return gateway.wait()


def interrupted(*_: object) -> None:
    """Turn a signal into what Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Return the exit status: 0 after Ctrl-C, 1 when something failed."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "var", help="where data and secrets are kept")
    for number in (signal.SIGINT, signal.SIGTERM):
        # SIGINT, too: a shell that starts us in the background has it ignored.
        signal.signal(number, interrupted)
    try:
        return run(parser.parse_args().folder.resolve())
    except KeyboardInterrupt:
        return 0
    except Failed as failure:
        print(f"make run: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

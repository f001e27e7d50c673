"""`make run`: runs the gateway and all its services on this machine until Ctrl-C.

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
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from demo.children import ROOT, START_SECONDS, Failed, end_with_parent, free_port, running, wait_for_port
from demo.edge import edge_settings, running_edge
from demo.exclusive import listening_port, locked_folder, parse_port
from demo.launch import DemoClusters, running_clusters
from demo.manage import manage
from lucid_gateway.kernel.env import Environment

BIN = Path(sys.executable).parent
MAILS_ARE_PRINTED = "Mails, such as those with login codes, are printed here."
MAILS_GO_TO_SMTP = "Mails, such as those with login codes, go to EMAIL_HOST."


def kept_secrets(var: Path) -> dict[str, str]:
    """Return the secrets of this checkout, which the first start creates and stores."""
    path = var / "secrets.json"
    if not path.exists():
        made = {name: secrets.token_urlsafe(48) for name in ("SECRET_KEY", "JWT_SECRET_KEY")}
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(made, file)
    kept: dict[str, str] = json.loads(path.read_text())
    return kept


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
    with open(folder / "redis.log", "ab") as log, running([*command, "--loglevel", "warning"], log=log) as redis:
        wait_for_port(port, redis, "redis-server")
        yield f"redis://127.0.0.1:{port}/0"


def settings_for(var: Path, base: str, redis_url: str, clusters: DemoClusters) -> dict[str, str]:
    """Return the gateway's environment: the variables that are set, and defaults for the others."""
    defaults = {
        "ENVIRONMENT": "development",
        "SSL_ENABLED": "false",
        "API_DOCS_ENABLED": "true",
        "LOG_FORMAT": "console",
        "WEB_CONCURRENCY": "2",
        "REDIS_URL": redis_url,
        "SQLITE_PATH": str(var / "lucid_gateway.sqlite3"),
        "BLOCKCHAIN_CORE_URL": clusters.blockchain_core,
        "SESSION_MANAGEMENT_URL": clusters.session_management,
        "TRON_PAYMENT_URL": clusters.tron_payment,
        "PUBLIC_BASE_URL": base,
        **kept_secrets(var),
    }
    return defaults | dict(os.environ)


def write_environment(var: Path, environment: dict[str, str]) -> None:
    """Write the settings to local.env, so that manage.py can be used beside the running gateway."""
    path = var / "local.env"
    path.touch(mode=0o600)
    names = sorted(environment.keys() & Environment.model_fields.keys())
    path.write_text("".join(f"{name}={shlex.quote(environment[name])}\n" for name in names))


def wait_until_healthy(base: str, gateway: "subprocess.Popen[bytes]") -> None:
    """Return when the gateway answers; raise Failed if it ends or takes too long.

    The port accepts connections before the workers run, so a single request waits there until one answers.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if gateway.poll() is not None:
            raise Failed("the gateway did not start; its log is above")
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{base}/api/v1/meta/health/live", timeout=START_SECONDS),
        ):
            return
        time.sleep(0.05)
    raise Failed("the gateway does not answer")


def admin_line(accounts: dict[str, str], local: str) -> str:
    """Return how the admin logs in: with the generated password until they have set their own."""
    if password := accounts.get("admin_password"):
        return f"one-time password: {password}   (change it there)"
    forgotten = f"set -a; . {local}; set +a; .venv/bin/python manage.py changepassword {accounts['admin']}"
    return f"your own password\n                    (forgotten? {forgotten})"


def welcome_text(var: Path, environment: dict[str, str], base: str, accounts: dict[str, str]) -> str:
    """Return the text for the terminal: the addresses, how the admin logs in, and three commands to try."""
    token = accounts["user_access_token"]
    local = os.path.relpath(var / "local.env")
    return f"""
Lucid API Gateway   {base}
  admin             {base}/admin/   {accounts["admin"]}   {admin_line(accounts, local)}
  API documents     {base}/docs
  settings          {local} (for manage.py: set -a; . {local}; set +a)

Try it (the token works for 15 minutes):

curl -s {base}/api/v1/meta/health
curl -s -H 'Authorization: Bearer {token}' {base}/api/v1/chain/info
curl -si -H 'Authorization: Bearer {token}' '{base}/api/v1/chain/blocks?limit=1'

{MAILS_GO_TO_SMTP if environment.get("EMAIL_HOST") else MAILS_ARE_PRINTED} Ctrl-C stops everything.
"""


def say(text: str) -> None:
    print(text, flush=True)


def run(var: Path, *, edge: bool = False) -> int:
    """Start everything, with `edge` nginx in front, print how to use it, and wait for the gateway to end; return its
    exit status.
    """
    port = parse_port(os.environ.get("HTTP_PORT") or "8080")
    base = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening_port(port))
        stack.enter_context(locked_folder(var))
        say("Starting Redis and the demo clusters ...")
        redis_url = stack.enter_context(running_redis(var, dict(os.environ)))
        environment = settings_for(var, base, redis_url, stack.enter_context(running_clusters()))
        if edge:
            environment |= edge_settings(var)
        write_environment(var, environment)
        say("Preparing the database ...")
        accounts = json.loads(manage(environment, "seed_demo", "--migrate", "--json"))
        say("Starting the gateway ...")
        command = [str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py"]
        # Behind an edge, which gets the port, gunicorn listens on GATEWAY_SOCKET.
        listeners = [] if edge else [listener.fileno()]
        command += [f"-b=fd://{number}" for number in listeners]
        gateway = stack.enter_context(running([*command, "lucid_gateway.wsgi"], env=environment, pass_fds=listeners))
        listener.close()
        if edge:
            stack.enter_context(running_edge(var, environment, port))
        wait_until_healthy(base, gateway)
        say(welcome_text(var, environment, base, accounts))
        return gateway.wait()


def interrupted(*_: object) -> None:
    """Handle a signal like Ctrl-C."""
    raise KeyboardInterrupt


def main() -> int:
    """Return the exit status: 0 after Ctrl-C, 1 when something failed."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "var", help="folder for data and secrets")
    parser.add_argument("--edge", action="store_true", help="put the edge, nginx with Lua, in front of the gateway")
    options = parser.parse_args()
    folder = options.folder.resolve()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # SIGINT, too: a shell ignores it for processes that it starts in the background.
        signal.signal(number, interrupted)
    if "MAKELEVEL" in os.environ:
        end_with_parent(signal.SIGTERM)  # the parent is make
    try:
        return run(folder, edge=options.edge)
    except KeyboardInterrupt:
        return 0
    except Failed as failure:
        print(f"make run: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

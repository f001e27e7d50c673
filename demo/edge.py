"""`make edge`: nginx with Lua in front of the gateway of `make run`."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo.children import Failed, running, wait_for_port
from demo.manage import manage


def edge_settings(var: Path) -> dict[str, str]:
    """Return the settings of a gateway behind an edge, which shares a new secret with it."""
    return {"GATEWAY_SOCKET": str(var / "gateway.socket"), "EDGE_SECRET": secrets.token_urlsafe(32)}


def nginx_command(folder: Path) -> list[str]:
    """Return the command that runs nginx in the foreground with the configuration in the folder. Workers of an nginx
    that root started are root's, too: only they may enter a private folder.
    """
    nginx = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])) or "nginx"
    directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    return [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr", "-g", directives]


@contextmanager
def running_edge(var: Path, environment: Mapping[str, str], port: int) -> Iterator[None]:
    """Run the edge on the port until the block ends; raise Failed, with the packages that are missing."""
    folder = var / "edge"
    try:
        manage(environment, "configure_edge", str(folder), f"--listen=127.0.0.1:{port}", "--debian")
    except Failed as failure:
        raise Failed(str(failure).splitlines()[-1].removeprefix("CommandError: ")) from failure
    with running(nginx_command(folder), env={**environment, "TZ": "UTC"}) as process:
        wait_for_port(port, process, "the edge")
        yield

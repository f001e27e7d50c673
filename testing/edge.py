"""A real edge for tests: nginx with the deployed Lua in front of a gateway, on a free port."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from testing.manage import manage
from testing.servers import child, wait_for_port

MODULE = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
SECRET = "the-secret-of-the-edge-0123456789-abcdef"


@cache
def nginx_binary() -> str:
    """Return the path of nginx; skip the test if it, or a Lua package, is not installed."""
    found = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))
    if found is None or not MODULE.exists():
        pytest.skip("nginx with the Lua module is not installed")
    return found


@contextlib.contextmanager
def running_edge(
    folder: Path, port: int, env: Mapping[str, str], *, workers: int = 1
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run an edge on the port, in front of the gateway with these settings; its logs are in the folder."""
    binary = nginx_binary()
    configure(folder, port, env, workers=workers)
    globals_ = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    command = [binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr", "-g", globals_]
    with child(command, folder / "error.log", os.environ | {"TZ": "UTC"}) as process:
        wait_for_port(port, process)
        yield process


def configure(folder: Path, port: int, env: Mapping[str, str], *, workers: int = 1) -> None:
    """Write the edge's files with the management command."""
    manage(
        env, "configure_edge", str(folder), f"--listen=127.0.0.1:{port}", f"--workers={workers}", "--debian",
        f"--access-log={folder}/access.log", "--access-log-buffer=", "--error-log-level=warn",
    )  # fmt: skip

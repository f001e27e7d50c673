"""A real edge for tests: nginx with the deployed Lua in front of a gateway, on a free port."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from demo.edge import nginx_command
from testing.manage import manage
from testing.servers import child, wait_for_port

MODULE = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
SECRET = "the-secret-of-the-edge-0123456789-abcdef"


def skip_without_nginx() -> None:
    """Skip the test if nginx, or its Lua module, is not installed."""
    if shutil.which(nginx_command(Path())[0]) is None or not MODULE.exists():
        pytest.skip("nginx with the Lua module is not installed")


@contextlib.contextmanager
def running_edge(
    folder: Path, port: int, env: Mapping[str, str], *options: str, workers: int = 1
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run an edge on the port, in front of the gateway with these settings; its logs are in the folder. `options` are
    more of the command that configures it.
    """
    skip_without_nginx()
    configure(folder, port, env, *options, workers=workers)
    with child(nginx_command(folder), folder / "error.log", os.environ | {"TZ": "UTC"}) as process:
        wait_for_port(port, process)
        yield process


def configure(folder: Path, port: int, env: Mapping[str, str], *options: str, workers: int = 1) -> None:
    """Write the edge's files with the management command."""
    manage(
        env, "configure_edge", str(folder), f"--listen=127.0.0.1:{port}", f"--workers={workers}", "--debian",
        f"--access-log={folder}/access.log", "--access-log-buffer=", "--error-log-level=warn", "--skip-checks",
        *options,
    )  # fmt: skip

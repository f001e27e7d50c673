"""health_check.py (inside the image) and health_check.sh (from outside), against a real server."""

import os
import socket
import subprocess
import sys

import pytest

from deploy import health_check
from deploy.tests.backend import Backend
from deploy.tests.conftest import DEPLOY, free_port, tool

Result = subprocess.CompletedProcess[str]


def run_inside(port: int, **environment: str) -> Result:
    """Run the image's script as the image does."""
    variables = {"PATH": os.environ["PATH"], "HTTP_PORT": str(port)} | environment
    command = [sys.executable, str(DEPLOY / "health_check.py")]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=10)


def run_outside(port: int) -> Result:
    """Run the operator's script."""
    tool("curl")
    command = [str(DEPLOY / "health_check.sh"), f"http://127.0.0.1:{port}/api/v1/meta/health"]
    return subprocess.run(command, capture_output=True, text=True, timeout=10)


both = pytest.mark.parametrize("run", [run_inside, run_outside])


@both
@pytest.mark.parametrize("status", ["healthy", "degraded"])
def test_a_gateway_that_can_serve_passes_and_its_answer_is_printed(run, status: str, backend: Backend) -> None:
    backend.health = (200, f'{{"status": "{status}", "dependencies": {{"redis": "unhealthy"}}}}'.encode())
    result = run(backend.port)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == backend.health[1].decode()


@both
@pytest.mark.parametrize(
    "health",
    [
        (503, b'{"status": "unhealthy"}'),
        (503, b'{"status": "healthy"}'),
        (200, b'{"status": "unhealthy", "dependencies": {"redis": "healthy"}}'),
        (302, b'{"status": "healthy"}'),
        (200, b"<html>welcome</html>"),
        (200, b"[]"),
    ],
)
def test_any_other_answer_fails(run, health: tuple[int, bytes], backend: Backend) -> None:
    backend.health = health
    assert run(backend.port).returncode == 1


@both
def test_a_closed_port_fails_with_one_line(run) -> None:
    result = run(free_port())
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "no answer" in result.stderr


@pytest.mark.parametrize(
    ("allowed", "host"),
    [("api.example.org, localhost", "api.example.org"), (".example.org", "example.org"), ("", "127.0.0.1"), ("*", "127.0.0.1")],
)
def test_the_check_inside_asks_for_a_host_that_the_gateway_accepts(allowed: str, host: str, backend: Backend) -> None:
    backend.health = (200, b'{"status": "healthy"}')
    assert run_inside(backend.port, ALLOWED_HOSTS=allowed).returncode == 0
    assert backend.health_host == host


def test_a_gateway_that_accepts_but_never_answers_fails_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(health_check, "TIMEOUT_SECONDS", 0.1)
        monkeypatch.setenv("HTTP_PORT", str(silent.getsockname()[1]))
        assert health_check.main() == 1

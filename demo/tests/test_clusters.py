import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from demo.launch import ROOT, DemoClusters, running_clusters

COMMAND = [sys.executable, "-m", "demo.clusters"]


def test_every_cluster_is_healthy(clusters: DemoClusters) -> None:
    for url in (clusters.blockchain_core, clusters.session_management, clusters.tron_payment):
        answer = httpx.get(f"{url}/health", trust_env=False)
        assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})


def test_an_unknown_path_is_a_json_404(clusters: DemoClusters) -> None:
    for url in (clusters.blockchain_core, clusters.session_management, clusters.tron_payment):
        answer = httpx.get(f"{url}/nothing/here", trust_env=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "LUCID_ERR_4001")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_clusters_cleanly_during_a_request(number: signal.Signals) -> None:
    with running_clusters() as running:
        host, _, port = running.blockchain_core.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /api/v1/consensus/demo/slow?seconds=30 HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.1)
            os.kill(running.pid, number)
            connection.settimeout(3)
            assert connection.recv(10) == b""
        pid, status = os.waitpid(running.pid, 0)
        assert (pid, status) == (running.pid, 0)


def test_only_the_named_clusters_start() -> None:
    command = [*COMMAND, "--tron-payment", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
    assert b"tron_payment" in line
    assert b"blockchain_core" not in line


def test_an_address_in_use_fails_the_start_with_one_line(clusters: DemoClusters) -> None:
    taken = clusters.tron_payment.removeprefix("http://")
    command = [*COMMAND, "--tron-payment", taken]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("demo clusters: ")
    assert ended.stderr.count("\n") == 1


def test_the_clusters_stop_when_their_parent_dies() -> None:
    command = [*COMMAND, "--tron-payment", "127.0.0.1:0", "--parent-pid", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=5, check=False)
    assert ended.returncode == 0

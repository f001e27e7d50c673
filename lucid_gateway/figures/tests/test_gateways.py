"""Real gateways with several workers: their rows have every request exactly once, whatever happens to a worker."""

import json
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testing.gateway import Gateway, running_gateway
from testing.http.client import ask, request_bytes
from testing.waiting import wait_until

ROUTE = "api/v1/meta/info"
PRINT_ROWS = (
    "import json; from lucid_gateway.figures.models import Sample; "
    "print(json.dumps([(row.seconds, row.groups) for row in Sample.objects.all()]))"
)

PRINT_STATES = (
    "import json; from lucid_gateway.figures.gateways import read_gateways_and_workers; "
    "print(json.dumps({pid: s for state in read_gateways_and_workers() for pid, s in state.workers.items()}))"
)


def send(gateway: Gateway, count: int, path: str = f"/{ROUTE}") -> None:
    """Send requests on connections of their own, so that all workers get some."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask(gateway.port, request_bytes("GET", path)), range(count)))


def counted(gateway: Gateway, group: str = "routes", name: str = ROUTE) -> dict[int, int]:
    """Return the count in the rows of each length."""
    found: Counter[int] = Counter()
    for seconds, groups in json.loads(gateway.manage("shell", "-v", "0", "-c", PRINT_ROWS)):
        found[seconds] += groups.get(group, {}).get(name, 0)
    return dict(found)


def workers_of(gateway: Gateway) -> list[int]:
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def wait_for(gateway: Gateway, expected: int, group: str = "routes", name: str = ROUTE) -> None:
    wait_until(lambda: counted(gateway, group, name) == dict.fromkeys((10, 60, 600, 3600), expected), 60, every=1)


def test_every_request_is_counted_once_over_all_workers_also_when_one_is_killed() -> None:
    with running_gateway(WEB_CONCURRENCY="3") as gateway:
        send(gateway, 90)
        wait_for(gateway, 90)

        os.kill(workers_of(gateway)[0], signal.SIGKILL)
        wait_until(lambda: len(workers_of(gateway)) == 3)
        send(gateway, 60)
        wait_for(gateway, 150)


def test_a_gateway_that_ends_has_written_everything() -> None:
    with running_gateway() as gateway:
        send(gateway, 40)
        gateway.process.terminate()
        gateway.process.wait(60)

        assert counted(gateway) == {10: 40, 60: 40, 600: 40, 3600: 40}


def test_figures_need_no_metrics() -> None:
    with running_gateway(METRICS_ENABLED="false") as gateway:
        send(gateway, 40)
        wait_for(gateway, 40)


def test_requests_that_the_parser_refuses_are_counted() -> None:
    with running_gateway() as gateway:
        for _ in range(3):
            ask(gateway.port, b"GET / HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n")
        wait_for(gateway, 3, "refused", "malformed_request")


def test_a_killed_worker_is_silent_and_one_that_ends_as_it_should_is_not() -> None:
    with running_gateway(WEB_CONCURRENCY="2") as gateway:
        killed, ended = workers_of(gateway)
        wait_until(lambda: set(states(gateway)) == {killed, ended}, 60, every=1)
        os.kill(killed, signal.SIGKILL)
        os.kill(ended, signal.SIGTERM)
        wait_until(lambda: len(set(workers_of(gateway)) - {killed, ended}) == 2)

        expected = {killed, *workers_of(gateway)}
        wait_until(lambda: set(states(gateway)) == expected and states(gateway)[killed] > 20, 90, every=1)


def states(gateway: Gateway) -> dict[int, int]:
    """Return the process ids of the gateway's workers, and since how many seconds they have been silent."""
    return {
        int(pid): seconds for pid, seconds in json.loads(gateway.manage("shell", "-v", "0", "-c", PRINT_STATES)).items()
    }

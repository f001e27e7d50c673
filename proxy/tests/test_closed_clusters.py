"""Operators close clusters on a real gateway: all workers follow, requests in progress finish, clusters open again.

Each test has a separate cluster with two instances, so that no test waits for another's cluster to open.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from django.utils import timezone

from testing.gateway import Gateway, running_gateway
from testing.hammer import api, front_workers, outcomes, volley, workers
from testing.http.cluster import OK, RawCluster, Visit
from testing.waiting import wait_until

pytestmark = pytest.mark.quiet

SETTINGS = {
    "/wallets": "TRON_PAYMENT_URL", "/rdp": "RDP_SERVICES_URL", "/nodes": "NODE_MANAGEMENT_URL",
    "/storage": "STORAGE_DATABASE_URL", "/chain/info": "BLOCKCHAIN_CORE_URL",
}  # fmt: skip
POLLING_FAILED = "polling failed: Revisions.read"
# Workers read revisions every two seconds; the rest allows for a busy machine.
FOLLOWED_WITHIN = 15.0
EACH = 6  # requests to each worker
Twins = tuple[RawCluster, RawCluster]


@dataclass(frozen=True)
class Site:
    """A gateway with two workers, and the clusters behind it, by path."""

    gateway: Gateway
    clusters: dict[str, Twins]
    user: str
    admin: str

    def ask(self, path: str, method: str = "GET", token: str = "", **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.user}"}
        return requests.request(method, self.gateway.url + path, headers=headers, timeout=20, **more)

    def answers(self, path: str, each: int = 1) -> set[str]:
        """Send `each` requests to each worker; return the outcomes: `in`, or the code of the refusal."""
        request = api("GET", path, token=self.user)
        answers = outcomes(volley(self.gateway, [request] * each * len(front_workers(self.gateway))))
        return {"in" if outcome == "200" else outcome for outcome in answers}

    def close(self, path: str, **fields: Any) -> None:
        data = {"kind": "drain", "reason": "an upgrade"} | fields
        assert self.ask(maintenance_of(path), "POST", self.admin, json=data).status_code == 201

    def open(self, path: str) -> None:
        assert self.ask(maintenance_of(path), "DELETE", self.admin).status_code == 204

    def wait_for(self, answers: set[str], path: str) -> None:
        """Wait until requests to all workers have these outcomes."""
        wait_until(lambda: self.answers(path) == answers, FOLLOWED_WITHIN)

    def under_way(self, path: str) -> int:
        """Return the number of requests to the cluster that the admin API shows as in progress."""
        shown = self.ask("/admin/clusters", token=self.admin).json()["clusters"]
        cluster = next(one for one in shown if one["name"] == cluster_of(path))
        return sum(instance["in_flight"] or 0 for instance in cluster["instances"])

    def requests_at(self, path: str) -> list[int]:
        """Return the number of requests that each instance has received."""
        return [len(twin.requests) for twin in self.clusters[path]]


def cluster_of(path: str) -> str:
    return SETTINGS[path].removesuffix("_URL").lower()


def maintenance_of(path: str) -> str:
    return f"/admin/clusters/{cluster_of(path)}/maintenance"


def code(response: requests.Response) -> str:
    return str(response.json()["error"]["code"]).removeprefix("LUCID_ERR_") if response.status_code >= 400 else "in"


def in_seconds(seconds: float) -> str:
    return (timezone.now() + timedelta(seconds=seconds)).isoformat()


@pytest.fixture(scope="module")
def sqlite_site() -> Iterator[Site]:
    """The gateway, for tests that run on one database only."""
    with contextlib.ExitStack() as stack:
        clusters = {path: (stack.enter_context(RawCluster()), stack.enter_context(RawCluster())) for path in SETTINGS}
        urls = {SETTINGS[path]: f"{one.url},{two.url}" for path, (one, two) in clusters.items()}
        settings = {"RATE_LIMIT_ENABLED": "false", "MONGODB_DATABASE": "closed_clusters"}
        gateway = stack.enter_context(running_gateway(**settings, **urls))
        tokens = [gateway.issue_token(f"{name}@lucid.test") for name in ("demo", "admin")]
        yield Site(gateway, clusters, *tokens)


@pytest.fixture
def site(sqlite_site: Site, db: None) -> Site:
    """The gateway, for tests that run on both databases."""
    return sqlite_site


def test_all_workers_close_a_cluster_within_two_seconds_and_open_it_again(sqlite_site: Site) -> None:
    assert sqlite_site.answers("/rdp") == {"in"}
    sqlite_site.close("/rdp", ends_at=in_seconds(100))

    sqlite_site.wait_for({"5009"}, "/rdp")
    before = sqlite_site.requests_at("/rdp")
    answer = sqlite_site.ask("/rdp")
    assert (answer.status_code, 90 < int(answer.headers["Retry-After"]) <= 100) == (503, True)
    assert sqlite_site.answers("/storage") == {"in"}
    assert sqlite_site.requests_at("/rdp") == before

    sqlite_site.open("/rdp")
    sqlite_site.wait_for({"in"}, "/rdp")


def test_requests_under_way_are_finished(sqlite_site: Site) -> None:
    go_on, twins = threading.Event(), sqlite_site.clusters["/nodes"]

    def slowly(visit: Visit) -> None:
        if visit.request.target.endswith("/slow"):
            go_on.wait(20)
        visit.send(OK)

    for twin in twins:
        twin.behaviour = slowly
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(sqlite_site.ask, "/nodes/slow")
        wait_until(lambda: any(twin.requests for twin in twins))
        sqlite_site.close("/nodes")
        sqlite_site.wait_for({"5009"}, "/nodes")
        wait_until(lambda: sqlite_site.under_way("/nodes") == 1)
        assert not under_way.done()
        go_on.set()
        assert (under_way.result().status_code, under_way.result().text) == (200, "ok")
    wait_until(lambda: sqlite_site.under_way("/nodes") == 0)


def new_requests(site: Site, path: str) -> list[int]:
    """Send new requests, which all succeed; return how many of them each instance received."""
    before = site.requests_at(path)
    assert site.answers(path, EACH) == {"in"}
    return [now - then for then, now in zip(before, site.requests_at(path), strict=True)]


def test_a_closed_instance_gets_no_new_requests(sqlite_site: Site) -> None:
    one, two = sqlite_site.clusters["/storage"]
    sqlite_site.close("/storage", instance=one.url)
    all_at_two = [0, EACH * len(front_workers(sqlite_site.gateway))]
    wait_until(lambda: new_requests(sqlite_site, "/storage") == all_at_two, FOLLOWED_WITHIN)

    assert new_requests(sqlite_site, "/storage") == all_at_two
    sqlite_site.close("/storage", instance=two.url, ends_at=in_seconds(50))
    sqlite_site.wait_for({"5009"}, "/storage")
    assert 40 < int(sqlite_site.ask("/storage").headers["Retry-After"]) <= 50


def test_a_window_starts_and_ends_on_time_on_all_workers(sqlite_site: Site) -> None:
    started = time.monotonic()
    sqlite_site.close("/chain/info", starts_at=in_seconds(4), ends_at=in_seconds(8))
    assert sqlite_site.answers("/chain/info") == {"in"}

    wait_until(lambda: sqlite_site.answers("/chain/info") == {"5009"})
    assert time.monotonic() - started > 3.9
    wait_until(lambda: sqlite_site.answers("/chain/info") == {"in"})
    assert time.monotonic() - started > 7.9


def test_a_worker_that_starts_knows_what_is_closed(site: Site) -> None:
    site.close("/wallets")
    before = workers(site.gateway)
    for worker in before:
        os.kill(worker, 9)
    wait_until(lambda: len(set(workers(site.gateway)) - set(before)) == 2, 10)

    assert site.answers("/wallets") == {"5009"}


def test_without_the_database_closures_stay_as_last_read(sqlite_site: Site) -> None:
    sqlite_site.close("/wallets")
    sqlite_site.wait_for({"5009"}, "/wallets")
    with broken_database(sqlite_site.gateway):
        failures = sqlite_site.gateway.log.read_text().count(POLLING_FAILED)
        wait_until(lambda: sqlite_site.gateway.log.read_text().count(POLLING_FAILED) >= failures + 2, 10)

        assert sqlite_site.answers("/wallets") == {"5009"}


@contextlib.contextmanager
def broken_database(gateway: Gateway) -> Iterator[None]:
    """Replace the database file by a folder until the block ends."""
    path = Path(gateway.env["SQLITE_PATH"])
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    yield
    path.rmdir()
    path.with_suffix(".away").rename(path)

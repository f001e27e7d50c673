"""Operators of a running gateway see since when an instance is dead or hung, and why; a reload forgets neither."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from testing.gateway import Gateway, running_gateway
from testing.hammer import workers
from testing.http.client import RawClient
from testing.http.cluster import RawCluster, saying
from testing.servers import free_port
from testing.waiting import wait_until

pytestmark = pytest.mark.planes


@dataclass(frozen=True)
class Stage:
    """A gateway with a live and a dead instance behind /chain, and a hung one behind /wallets."""

    gateway: Gateway
    live: str
    dead: str
    hung: str
    token: str

    def instances(self) -> dict[str, Any]:
        """Return the instances by their addresses, as the admin API shows them."""
        with RawClient(self.gateway.port, self.token) as client:
            found = client.ask("GET", "/admin/clusters").json()["clusters"]
        return {instance["url"]: instance for cluster in found for instance in cluster["instances"]}

    def when_down(self, url: str) -> Any:
        """Return the instance as soon as a worker finds it down and knows why."""
        return wait_until(
            lambda: next((one for one in [self.instances()[url]] if one["down_since"] and one["last_error"]), None)
        )


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with RawCluster() as live, RawCluster() as hung:
        hung.behaviour = saying()
        dead = f"http://127.0.0.1:{free_port()}"
        with running_gateway(
            BLOCKCHAIN_CORE_URL=f"{live.url},{dead}",
            TRON_PAYMENT_URL=hung.url,
            CLUSTER_HEALTH_CHECKS_ENABLED="true",
            HEALTH_CHECK_INTERVAL="1",
        ) as gateway:
            yield Stage(gateway, live.url, dead, hung.url, gateway.issue_token("admin@lucid.test"))


def test_a_dead_instance_refuses_connections(stage: Stage) -> None:
    assert stage.when_down(stage.dead)["last_error"] == "connection refused"


def test_a_hung_instance_gives_no_answer(stage: Stage) -> None:
    assert stage.when_down(stage.hung)["last_error"] == "no answer within 2 s"


def test_a_live_instance_is_not_down(stage: Stage) -> None:
    live = wait_until(
        lambda: next((one for one in [stage.instances()[stage.live]] if one["health"] == "healthy"), None)
    )
    assert (live["down_since"], live["last_error"]) == (None, "")


def test_a_reload_keeps_the_time(stage: Stage) -> None:
    before, old = stage.when_down(stage.dead)["down_since"], set(workers(stage.gateway))
    os.kill(stage.gateway.process.pid, signal.SIGHUP)
    wait_until(lambda: len(workers(stage.gateway)) == 2 and not old & set(workers(stage.gateway)))

    # Another worker may have found it down a moment earlier, but had not told so.
    wait_until(lambda: moment(stage.when_down(stage.dead)["down_since"]) <= moment(before))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)

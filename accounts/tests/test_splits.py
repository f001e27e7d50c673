"""Gateways with one database, but different Redis servers or clocks: a revoked token works nowhere for long."""

import base64
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from lucid_gateway.policy import keys
from testing.clocks import clock_ahead, needs_faketime
from testing.gateway import Gateway, another, manage, running_gateway
from testing.hammer import api, outcome
from testing.http.client import ask
from testing.http.cluster import RawCluster
from testing.servers import RedisServer, free_port, running_redis
from testing.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.planes]
PATH = "/chain/info"
USER = "demo@lucid.test"
# Two seconds are promised; a busy machine gets threefold room.
SECONDS = 6.0
LOCK = """
from accounts.users.locks import lock_user
from accounts.models import User
lock_user(User.objects.get(email="operator@lucid.test"), reason="", by="")
"""


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def here(redis_server: RedisServer) -> Iterator[Gateway]:
    """A gateway of one worker that reaches Redis."""
    settings = {"REDIS_URL": redis_server.url, "WEB_CONCURRENCY": "1", "MONGODB_DATABASE": "splits"}
    with RawCluster() as chain, running_gateway(BLOCKCHAIN_CORE_URL=chain.url, **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def cut_off(here: Gateway) -> Iterator[Gateway]:
    """A gateway with the same database that reaches no Redis."""
    with another(here, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0") as gateway:
        yield gateway


def asked(gateway: Gateway, **credential: str) -> str:
    """Return `200`, or the code of the refusal."""
    return outcome(ask(gateway.port, api("GET", PATH, **credential)))


def send(gateway: Gateway, method: str, path: str, data: object = None, **credential: str) -> str:
    return outcome(ask(gateway.port, api(method, path, data, **credential)))


def claims_of(token: str) -> Any:
    """Return the claims of the token."""
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def life_of_entry(server: RedisServer, token: str) -> int:
    """Return the seconds until the entry of the revoked token expires in Redis."""
    with Redis.from_url(server.url) as client:
        claims = claims_of(token)
        life: int = client.ttl(keys.revoked(claims["user_id"], claims["jti"]))
        return life


def refused_within(gateway: Gateway, code: str, **credential: str) -> None:
    """Wait until the gateway refuses the credential; raise AssertionError if that takes too long."""
    wait_until(lambda: asked(gateway, **credential) == code, SECONDS)
    assert {asked(gateway, **credential) for _ in range(5)} == {code}


def test_a_logout_at_a_gateway_without_redis_takes_effect_at_the_others(
    here: Gateway, cut_off: Gateway, redis_server: RedisServer
) -> None:
    token = here.issue_token(USER)
    assert asked(here, token=token) == asked(cut_off, token=token) == "200"
    here.warm(token, PATH)

    assert send(cut_off, "POST", "/auth/logout", {}, token=token) == "200"

    refused_within(here, "2003", token=token)
    wait_until(lambda: life_of_entry(redis_server, token) > 0, SECONDS)  # for data planes that ask only Redis


def test_an_ended_epoch_and_a_revoked_key_at_a_gateway_without_redis_take_effect_at_the_others(
    here: Gateway, cut_off: Gateway
) -> None:
    token = here.issue_token(USER)
    made = here.manage("create_api_key", "--email", USER, "--name", "split", "--permission", "blockchain:read").split()
    key = next(word for word in made if word.startswith("lk_"))
    assert asked(here, token=token) == asked(here, key=key) == "200"
    here.warm(token, PATH)
    here.warm(key, PATH)

    key_id = key.split("_")[1]
    assert send(cut_off, "DELETE", f"/users/me/api-keys/{key_id}", token=token) == "204"
    refused_within(here, "2003", key=key)
    assert send(cut_off, "POST", "/auth/logout", {"everywhere": True}, token=token) == "200"
    refused_within(here, "2003", token=token)


def test_a_lock_by_a_command_without_redis_takes_effect_at_the_gateways(here: Gateway, cut_off: Gateway) -> None:
    token = here.issue_token("operator@lucid.test")
    assert asked(here, token=token) == "200"
    here.warm(token, PATH)

    cut_off.manage("shell", "--command", LOCK)
    refused_within(here, "2005", token=token)


@needs_faketime
@pytest.mark.parametrize("ahead", [3500, -3500])
def test_a_revocation_by_a_process_with_a_wrong_clock_takes_effect_everywhere(
    here: Gateway, redis_server: RedisServer, ahead: int
) -> None:
    token = here.issue_token(USER)
    assert asked(here, token=token) == "200"
    here.warm(token, PATH)

    manage({**here.env, **clock_ahead(ahead)}, "revoke_tokens", "--jti", claims_of(token)["jti"])

    assert asked(here, token=token) == "2003"
    assert life_of_entry(redis_server, token) > claims_of(token)["exp"] - time.time()


@pytest.mark.django_plane
@needs_faketime
def test_a_clock_that_differs_from_that_of_redis_is_named_in_health_and_once_in_the_log() -> None:
    with (
        running_redis(env={**os.environ, **clock_ahead(-300)}) as late,
        running_gateway(REDIS_URL=late.url, WEB_CONCURRENCY="1", MONGODB_DATABASE="clocks") as gateway,
    ):
        advice = "s ahead of that of Redis"
        wait_until(lambda: advice in ask(gateway.port, api("GET", "/meta/health")).body.decode(), SECONDS)
        assert gateway.log.read_text().count(advice) == 1

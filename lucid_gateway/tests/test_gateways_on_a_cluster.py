"""Two gateways on a Redis Cluster of six nodes: limits are exact and revocations hold, whatever happens to a node."""

import base64
import contextlib
import json
import statistics
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lucid_gateway.kernel.redis.slots import slot_of
from lucid_gateway.policy import keys
from ratelimit.tests.crowd import access_token, bearer, crowd, get
from testing.gateway import Gateway, another, running_gateway
from testing.hammer import Hammer, api, hammering
from testing.http.cluster import RawCluster
from testing.minutes import in_one_minute
from testing.redis_cluster import ClusterOfServers, client, running_redis_cluster
from testing.servers import RedisServer
from testing.waiting import wait_until

pytestmark = pytest.mark.quiet
USERS, LIMIT, BURST = 1_000, 2, 1
PATH = "/chain/info"
LOAD = "/chain/blocks"  # has another limit
# A second is promised; a busy machine gets threefold room.
SECONDS = 3.0
TIMEOUT = 1.0  # seconds; shorter ones would look like a busy machine
# The second token of each user was revoked before the workers remember: they know it from Redis alone.
MAKE_USERS = """
import json
from datetime import timedelta
from django.utils import timezone
from accounts.models import IssuedToken, User
from accounts.tokens.issuing import issue_tokens
from accounts.tokens.revocation.cache import suspect_all
from accounts.tokens.revocation.rebuild import rebuild
users = [User.objects.create(email=f"user-{n}@lucid.test", username=f"user-{n}") for n in range(24)]
ended = [issue_tokens(user).access for user in users]
IssuedToken.objects.filter(user__in=users).update(revoked_at=timezone.now() - timedelta(minutes=5))
suspect_all()
rebuild()
print(json.dumps([[issue_tokens(user).access, token] for user, token in zip(users, ended)]))
"""


@dataclass
class Stage:
    """The gateways, their cluster, and a live and a revoked token of each of many users in the database."""

    nodes: ClusterOfServers
    gateways: list[Gateway]
    users: list[list[str]]

    def of_master(self, server: RedisServer) -> list[list[str]]:
        """Return the tokens of users whose keys the server has now."""
        return [tokens for tokens in self.users if self.nodes.master_of(key_of(tokens[0])) == server]


def key_of(token: str) -> str:
    """Return the subject of the requests with the token."""
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return keys.user(claims["user_id"])


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(running_redis_cluster(3, replicas=True))
        settings = {
            "REDIS_URL": nodes.url, "REDIS_TIMEOUT_SECONDS": str(TIMEOUT), "WEB_CONCURRENCY": "1",
            "BLOCKCHAIN_CORE_URL": stack.enter_context(RawCluster()).url,
            "RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": str(LIMIT),
            "RATE_LIMIT_AUTHENTICATED_BURST_SIZE": str(BURST),
            "RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE": "1000000", "RATE_LIMIT_REQUESTS_PER_MINUTE": "1000000",
        }  # fmt: skip
        first = stack.enter_context(running_gateway(**settings))
        second = stack.enter_context(another(first))
        users = json.loads(first.manage("shell", "-c", MAKE_USERS).splitlines()[-1])
        yield Stage(nodes, [first, second], users)


def admitted(stage: Stage, tokens: list[str]) -> set[int]:
    """Return how many requests of each user pass, of one more than may, half of them at each gateway."""
    requests = [get(PATH, bearer(token)) for token in tokens for _ in range(LIMIT + BURST + 1)]
    answers = crowd([gateway.port for gateway in stage.gateways], requests)
    size = LIMIT + BURST + 1
    return {
        sum(answer.status == 200 for answer in answers[start : start + size]) for start in range(0, len(requests), size)
    }


def test_of_each_of_a_thousand_users_exactly_the_limit_passes_at_two_gateways(stage: Stage) -> None:
    wait_until(lambda: admitted(stage, [access_token()]) == {LIMIT + BURST}, every=0.2)

    assert in_one_minute(lambda: admitted(stage, [access_token() for _ in range(USERS)]), 30) == {LIMIT + BURST}


def flush(stage: Stage, master: RedisServer) -> None:
    with client(master) as redis:
        redis.flushall()


def reshard(stage: Stage, master: RedisServer) -> None:
    """Move the slots of its users to another master."""
    to = next(other for other in stage.nodes.masters if other is not master)
    for tokens in stage.of_master(master):
        stage.nodes.move_slot(slot_of(key_of(tokens[0])), to)


def fail_over(stage: Stage, master: RedisServer) -> None:
    stage.nodes.fail_over(master)


def kill(stage: Stage, master: RedisServer) -> None:
    """Kill the master, and wait until the other masters have elected its replica."""
    master.process.kill()
    stage.nodes.wait_for_promotion(stage.nodes.replica_of(master))


# Each has a master of its own; the last two leave it without a replica.
@pytest.mark.parametrize(("fault", "number"), [(flush, 0), (reshard, 0), (fail_over, 1), (kill, 2)])
def test_a_fault_of_one_master_lets_nothing_in_and_concerns_its_users_alone(
    stage: Stage, fault: Callable[[Stage, RedisServer], None], number: int
) -> None:
    master = stage.nodes.masters[number]
    concerned, ended = stage.of_master(master)[0]
    other = next(live for live, _ in stage.users if stage.nodes.master_of(key_of(live)) != master)
    slot = slot_of(key_of(concerned))
    requests = [
        (name, api("GET", LOAD, token=token))
        for name, token in (("ended", ended), ("concerned", concerned), ("other", other))
    ]

    with contextlib.ExitStack() as stack:
        hammers = [stack.enter_context(hammering(gateway, requests, clients=3)) for gateway in stage.gateways]
        began = max(hammer.go_on(50) for hammer in hammers)
        fault(stage, master)
        wait_until(lambda: admitted(stage, [user_in(slot)]) == {LIMIT + BURST}, SECONDS)
        for hammer in hammers:
            hammer.go_on(50)

    for hammer in hammers:
        assert {name: set(hammer.seen(name)) for name, _ in requests} == {
            "ended": {"2003"}, "concerned": {"200"}, "other": {"200"}
        }  # fmt: skip
    assert slowest(hammers, "other", began) < TIMEOUT * 0.75  # none has waited for the lost master
    assert in_one_minute(lambda: admitted(stage, [user_in(slot) for _ in range(20)])) == {LIMIT + BURST}


def user_in(slot: int) -> str:
    """Return the token of a new user whose keys are in the slot."""
    while slot_of(keys.user(user_id := str(uuid.uuid4()))) != slot:
        pass
    return access_token(user_id=user_id)


def slowest(hammers: list[Hammer], name: str, after: float) -> float:
    """Return the 99th percentile of the seconds that the requests of that name took since the moment."""
    shots = [shot for hammer in hammers for shot in hammer.shots if shot.name == name and shot.started > after]
    return statistics.quantiles([shot.ended - shot.started for shot in shots], n=100)[-1]

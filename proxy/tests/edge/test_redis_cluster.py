"""The edge with a Redis Cluster: it decides with the master of each caller, whatever happens to that one or another."""

from collections.abc import Iterator

import jwt
import pytest

from lucid_gateway.kernel.redis.slots import slot_of
from lucid_gateway.policy import keys
from proxy.tests.edge.conftest import Stage, shell
from proxy.tests.edge.test_faults import Fire
from proxy.tests.edge.test_redis import MANY, decides_again, stage_on
from testing.redis_cluster import ClusterOfServers, client, running_redis_cluster
from testing.servers import RedisServer
from testing.waiting import wait_until

RETIRE = """
from accounts.tokens.signing_keys import rotate
rotate("HS256", retire_now=True, wait=lambda _: None)
"""
RULE = """
from ratelimit.ruling import set_limit_rule
set_limit_rule(tier="authenticated", subject="{bucket}", by="test", limit=70000)
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterOfServers]:
    with running_redis_cluster(3, replicas=True) as found:
        yield found


@pytest.fixture(scope="module")
def whole_stage(nodes: ClusterOfServers) -> Iterator[Stage]:
    with stage_on(nodes.url, **MANY) as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    """The stage with a token that nobody has ended; the edge knows it."""
    whole_stage.token = whole_stage.taught("demo@lucid.test")
    return whole_stage


def subject(stage: Stage) -> str:
    claims = jwt.decode(stage.token, options={"verify_signature": False})
    return keys.user(claims["user_id"])


def counted(stage: Stage, server: RedisServer) -> int:
    """Return how many requests of the user the server has counted."""
    with client(server) as redis:
        return int(redis.hget(keys.quota(subject(stage)), "n") or 0)


def planes(stage: Stage, count: int = 20) -> set[str]:
    return {stage.plane(stage.ask()) for _ in range(count)}


def test_each_request_is_counted_once_by_the_master_of_its_caller(nodes: ClusterOfServers, stage: Stage) -> None:
    master = nodes.master_of(subject(stage))
    before = counted(stage, master)

    assert planes(stage) == {"edge"}
    assert counted(stage, master) - before == 20


def test_a_revoked_token_is_refused_at_once(stage: Stage) -> None:
    assert stage.ask("/auth/logout", method="POST").status == 200

    assert {stage.ask().code for _ in range(5)} == {"2003"}


def test_what_was_taught_ends_with_the_rules_of_the_caller(stage: Stage) -> None:
    shell(stage.gateway, RULE.format(bucket=subject(stage).strip("{}")))

    wait_until(lambda: stage.ask().header("X-RateLimit-Limit") == "70000" and stage.plane(stage.ask()) == "edge")


def test_what_was_taught_ends_with_the_keys(stage: Stage) -> None:
    shell(stage.gateway, RETIRE)
    stage.gateway.spare_tokens.clear()

    assert {stage.ask().status for _ in range(5)} == {401}
    stage.token = stage.gateway.issue_token("demo@lucid.test")
    wait_until(lambda: stage.ask().status == 200)  # the gateway has read the new key
    decides_again(stage)


def test_a_slot_that_was_moved_is_followed_and_its_counts_go_with_it(nodes: ClusterOfServers, stage: Stage) -> None:
    before = nodes.master_of(subject(stage))
    after = next(master for master in nodes.masters if master != before)
    count = counted(stage, before)
    with Fire(stage, each=5) as fire:
        nodes.move_slot(slot_of(subject(stage)), after)
        decides_again(stage)
        so_far = sum(fire.found.values())
        wait_until(lambda: sum(fire.found.values()) > so_far + 50)
    assert fire.found.keys() == {"200"}
    assert counted(stage, after) > count

    before_asking = counted(stage, after)
    assert planes(stage) == {"edge"}
    assert counted(stage, after) - before_asking == 20


def test_a_hung_master_concerns_its_own_callers_alone(nodes: ClusterOfServers, stage: Stage) -> None:
    hung = next(master for master in nodes.masters if not is_of_anybody(master, nodes, stage))
    with hung.hung():
        assert planes(stage, 40) == {"edge"}


def is_of_anybody(master: RedisServer, nodes: ClusterOfServers, stage: Stage) -> bool:
    """Return whether the master has keys of the user, or of the gateway itself."""
    gateway = keys.edge_snapshot(f"127.0.0.1:{stage.gateway.port}")
    return master in (nodes.master_of(subject(stage)), nodes.master_of(gateway))


def test_after_the_death_of_a_master_its_callers_are_decided_on_with_its_replica(
    nodes: ClusterOfServers, stage: Stage
) -> None:
    master = nodes.master_of(subject(stage))
    if master not in nodes.masters:
        return  # it is the replica by now
    ended = stage.taught("operator@lucid.test")
    assert stage.ask("/auth/logout", method="POST", token=ended).status == 200
    with Fire(stage, each=5) as fire:
        master.process.kill()
        nodes.wait_for_promotion(nodes.replica_of(master))
        decides_again(stage)
    assert fire.found.keys() == {"200"}

    before = counted(stage, nodes.replica_of(master))
    assert planes(stage) == {"edge"}
    assert counted(stage, nodes.replica_of(master)) - before == 20
    assert {stage.ask(token=ended).status for _ in range(5)} == {401}

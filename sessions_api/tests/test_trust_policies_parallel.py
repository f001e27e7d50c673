"""The promises of trust policies under parallel requests to two workers of a real gateway."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from sessions_api.tests.test_conditions import HOSTILE, MOST_SECONDS
from sessions_api.tests.trust import PATH, POLICY, RULE
from testing.gateway import Gateway
from testing.hammer import LIVE, api, connections, outcomes, volley


@pytest.fixture
def token(gateway: Gateway, gateway_token: str) -> Iterator[str]:
    """A user's token; their policies are deleted afterwards."""
    yield gateway_token
    headers = {"Authorization": f"Bearer {gateway_token}"}
    for policy in requests.get(f"{gateway.url}{PATH}?limit=100", headers=headers, timeout=10).json()["policies"]:
        requests.delete(f"{gateway.url}{PATH}/{policy['policy_id']}", headers=headers, timeout=10)


def test_sixty_concurrent_creations_make_fifty_policies(gateway: Gateway, token: str) -> None:
    answers = volley(gateway, [api("POST", PATH, POLICY, token=token)] * 60)
    assert outcomes(answers) == {"201": 50, "4003": 10}


def test_one_of_several_concurrent_changes_with_the_same_tag_succeeds(gateway: Gateway, token: str) -> None:
    (made,) = volley(gateway, [api("POST", PATH, POLICY, token=token)])
    path, tag = f"{PATH}/{json.loads(made.body)['policy_id']}", made.header("ETag")
    changes = [api("PATCH", path, {"name": f"{n}"}, f"If-Match: {tag}", token=token) for n in range(12)]
    assert outcomes(volley(gateway, changes)) == {"200": 1, "4003": 11}


def test_one_of_several_concurrent_deletions_succeeds(gateway: Gateway, token: str) -> None:
    (made,) = volley(gateway, [api("POST", PATH, POLICY, token=token)])
    deletion = api("DELETE", f"{PATH}/{json.loads(made.body)['policy_id']}", token=token)
    assert outcomes(volley(gateway, [deletion] * 12)) == {"204": 1, "4001": 11}


@pytest.mark.quiet
def test_a_worker_answers_others_while_it_parses_hostile_conditions(gateway: Gateway, token: str) -> None:
    rules = [RULE | {"rule_id": f"{n}", "condition": f"c{n}||{HOSTILE['terms'][:990]}||"} for n in range(16)]
    hostile = api("POST", PATH, POLICY | {"rules": rules}, token=token)
    waits: list[float] = []
    with connections(gateway, 4) as opened:
        (_, busy), idle = opened[0], next(other for pid, other in opened[1:] if pid == opened[0][0])
        with ThreadPoolExecutor(1) as threads:
            refusal = threads.submit(lambda: (busy.send(hostile), busy.read_answer()))
            while not refusal.done():
                asked = time.monotonic()
                idle.send(LIVE)
                assert idle.read_answer().status == 200
                waits.append(time.monotonic() - asked)
    _, answer = refusal.result()
    assert (answer.status, answer.code) == (422, "1003")
    assert max(waits) < max(MOST_SECONDS, sum(waits) / 4)  # on a busy machine each turn takes longer

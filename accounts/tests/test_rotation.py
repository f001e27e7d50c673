"""Signing keys are rotated while the two workers of a real gateway are under load: no request fails."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from django.conf import settings

from accounts.models import SigningKey, User
from accounts.tests.forge import forge
from accounts.tests.stage import Person, Stage, running_stage
from accounts.tokens import signing_keys
from accounts.tokens.keyring import KeyringCache
from accounts.tokens.signing_keys import Rotation, RotationUnderway, bootstrap, bootstrap_kid, rotate
from lucid_gateway.policy.claims import AUDIENCE, ISSUER
from testing.gateway import manage
from testing.hammer import api, hammering, outcome, outcomes
from testing.http.client import request_bytes
from testing.plugin import JWT_SECRET_KEY
from testing.servers import ROOT
from testing.waiting import wait_until

pytestmark = pytest.mark.usefixtures("db")
FOLLOWED_WITHIN_SECONDS = 15  # two, with room for a busy machine
POLLED_WITHIN_SECONDS = 3  # each worker reads the keys every two seconds, and behind an edge takes requests by chance
PATHS = "/auth/status", "/chain/info"  # the second, of a cluster, is for the edge if there is one
JWKS = request_bytes("GET", "/.well-known/jwks.json")
PUBLIC = ["ES256", "EdDSA", "RS256"]
ROTATED_TO = ["ES256"] if settings.ON_MONGODB else PUBLIC  # the database does not know the difference
PUBLISH_ALL = (
    f"from accounts.tokens.signing_keys import publish_next\nfor name in [*{PUBLIC}, 'HS256']: publish_next(name)\n"
)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A gateway whose next keys, of all algorithms, have been published long enough to sign at once."""
    with running_stage("rotation", prepare=PUBLISH_ALL, LOGINS_PER_ACCOUNT="1000000") as stage:
        yield stage


@pytest.fixture(scope="module")
def earlier(stage: Stage) -> list[str]:
    """Access tokens of all keys so far."""
    return [stage.people.pop().log_in()["access_token"]]


def rotate_keys(stage: Stage, *options: str) -> str:
    """Rotate the keys in another process; return the id of the key that signs now."""
    rotation = json.loads(stage.gateway.manage("rotate_jwt_keys", "--no-input", "--json", *options))
    return str(rotation["active"])


def key_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def new_tokens(stage: Stage, people: tuple[Person, Person]) -> list[str]:
    """Return an access token from each worker."""
    answers = stage.send_all([person.shows(token=person.mail()["token"]) for person in people])
    assert outcomes(answers) == {"200": 2}
    return [json.loads(answer.body)["access_token"] for answer in answers]


def user_of(token: str, jwks: bytes) -> str:
    """Return the user of the token, verified with the public keys only."""
    key = jwt.PyJWKSet.from_dict(json.loads(jwks))[key_of(token)]
    claims = jwt.decode(token, key, audience=AUDIENCE, issuer=ISSUER)
    return str(claims["user_id"])


@contextlib.contextmanager
def people_coming_and_going(stage: Stage) -> Iterator[Counter[str]]:
    """Let two people refresh their tokens and two log in, again and again; yield the outcomes."""
    met: Counter[str] = Counter()
    stop = threading.Event()

    def refresh(person: Person) -> None:
        tokens = person.log_in()
        while not stop.wait(0.1):
            answer = stage.ask("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
            met[outcome(answer)] += 1
            tokens = json.loads(answer.body)
            met[stage.outcome_with(tokens["access_token"])] += 1

    def log_in(person: Person) -> None:
        while not stop.wait(0.1):
            met[stage.outcome_with(person.log_in()["access_token"])] += 1

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(live, stage.people.pop()) for live in (refresh, refresh, log_in, log_in)]
        try:
            yield met
        finally:
            stop.set()
        for person in running:
            person.result()


@contextlib.contextmanager
def under_load(stage: Stage, tokens: list[str]) -> Iterator[None]:
    """Use the tokens, new ones and logins on all workers during the block; check that each of them works each time."""
    asked = [("token", api("GET", path, token=token)) for token in tokens for path in PATHS]
    with people_coming_and_going(stage) as met, hammering(stage.gateway, asked, pause=0.1) as hammer:
        hammer.go_on(5)
        yield
        hammer.go_on(5)
    assert set(met) == set(hammer.seen("token")) == {"200"}
    assert met.total() >= 10


def signed_with(key_id: str, tokens: list[str]) -> list[str]:
    """Return the tokens if all of them were signed with this key, else an empty list: one worker may be behind."""
    return tokens if {key_of(token) for token in tokens} == {key_id} else []


@pytest.mark.planes
@pytest.mark.parametrize("algorithm", ROTATED_TO)
def test_no_request_fails_while_the_keys_are_rotated(stage: Stage, earlier: list[str], algorithm: str) -> None:
    people = stage.people.pop(), stage.people.pop()
    with under_load(stage, earlier):
        active = rotate_keys(stage, "--algorithm", algorithm)
        public_keys = [answer.body for answer in stage.send_all([JWKS] * 2)]
        new, _ = wait_until(lambda: signed_with(active, new_tokens(stage, people)), FOLLOWED_WITHIN_SECONDS)

    assert {user_of(new, keys) for keys in public_keys} == {people[0].user_id}
    earlier.append(new)


def test_the_public_keys_are_the_same_on_all_workers_and_no_secret_is_among_them(stage: Stage) -> None:
    first, second = (json.loads(answer.body)["keys"] for answer in stage.send_all([JWKS] * 2))

    assert first == second
    assert {key["alg"] for key in first} == set(PUBLIC)
    assert not {"d", "k", "p", "q"} & {name for key in first for name in key}


@pytest.mark.planes
def test_after_two_parallel_rotations_one_key_is_active(stage: Stage, earlier: list[str]) -> None:
    command = [sys.executable, str(ROOT / "manage.py"), "rotate_jwt_keys"]
    env = dict(stage.gateway.env)
    with under_load(stage, earlier), ThreadPoolExecutor(2) as threads:
        ended = threads.map(lambda _: subprocess.run(command, cwd=ROOT, env=env, check=False).returncode, range(2))

    assert sorted(ended) in ([0, 0], [0, 1])
    keys = json.loads(stage.gateway.manage("list_jwt_keys", "--json"))
    assert [key["algorithm"] for key in keys if key["state"] == "active"] == ["HS256"]


@pytest.mark.planes
def test_a_key_that_is_retired_now_is_refused_by_all_workers(stage: Stage, earlier: list[str]) -> None:
    people = stage.people.pop(), stage.people.pop()
    forged = forge(User(pk=uuid.UUID(people[0].user_id)))  # signed with the stolen first key
    asked = [("earlier", api("GET", path, token=token)) for token in earlier for path in PATHS]
    asked += [("forged", api("GET", path, token=forged)) for path in PATHS]
    with hammering(stage.gateway, asked) as hammer:
        hammer.go_on(3)
        before = set(hammer.seen("earlier") + hammer.seen("forged"))
        active = rotate_keys(stage, "--retire-now")
        retired = hammer.go_on(3)

        def all_follow() -> bool:
            since = time.monotonic() - POLLED_WITHIN_SECONDS
            return since > retired and set(hammer.seen("forged", after=since)) == {"2003"}

        wait_until(all_follow, FOLLOWED_WITHIN_SECONDS, every=0.2)
        followed = hammer.go_on(5)

    assert before == {"200"}
    assert set(hammer.seen("earlier", after=retired)) == {"2003"}
    assert set(hammer.seen("forged", after=followed)) == {"2003"}
    tokens = new_tokens(stage, people)
    assert {key_of(token) for token in tokens} == {active}
    assert outcomes(stage.send_all([api("GET", "/auth/status", token=token) for token in tokens * 2])) == {"200": 4}


def test_processes_that_start_together_on_an_empty_database_make_one_first_key(tmp_path: Path) -> None:
    env = os.environ | {"SQLITE_PATH": str(tmp_path / "db.sqlite3"), "MONGODB_DATABASE": "empty"}
    manage(env, "migrate", "--verbosity", "0")

    with ThreadPoolExecutor(4) as threads:
        started = list(threads.map(lambda _: manage(env, "rotate_jwt_keys", "--dry-run", "--json"), range(4)))

    assert {json.loads(text)["replaces"] for text in started} == {bootstrap_kid(JWT_SECRET_KEY)}


def rotate_at_once(*, retire_now: bool = False) -> Rotation:
    return rotate("HS256", retire_now=retire_now, wait=lambda _: None)


def active_keys() -> list[str]:
    return list(SigningKey.objects.filter(state="active").values_list("kid", flat=True))


@pytest.mark.parametrize("emergency", [False, True])
def test_a_rotation_that_is_overtaken_leaves_the_key_of_the_other_active(emergency: bool) -> None:
    bootstrap()
    won: list[Rotation] = []

    with pytest.raises(RotationUnderway):
        rotate("HS256", wait=lambda _: won.append(rotate_at_once(retire_now=emergency)))

    assert active_keys() == [won[0].active]
    assert SigningKey.objects.get(state="active").verify_until is None


def test_a_rotation_before_the_last_step_of_an_emergency_keeps_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bootstrap()
    revoke_all_but = signing_keys.revoke_all_but
    won: list[Rotation] = []

    def revoke_late(key: SigningKey, *, why: str) -> int:
        won.append(rotate_at_once())
        return revoke_all_but(key, why=why)

    monkeypatch.setattr(signing_keys, "revoke_all_but", revoke_late)

    with pytest.raises(RotationUnderway):
        rotate_at_once(retire_now=True)
    assert active_keys() == [won[0].active]
    assert SigningKey.objects.get(kid=bootstrap_kid(JWT_SECRET_KEY)).state == "revoked"


def test_an_interrupted_emergency_leaves_a_key_that_signs_and_the_next_one_completes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end_here(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    bootstrap()
    with monkeypatch.context() as patch:
        patch.setattr(signing_keys, "activate", end_here)
        with pytest.raises(KeyboardInterrupt):
            rotate_at_once(retire_now=True)

    assert KeyringCache().load().active.kid == bootstrap_kid(JWT_SECRET_KEY)
    active = rotate_at_once(retire_now=True).active
    assert KeyringCache().load().active.kid == active
    assert SigningKey.objects.get(kid=bootstrap_kid(JWT_SECRET_KEY)).state == "revoked"

"""Idempotency-Key on the POST endpoints of the gateway itself: each request creates its resource once."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.api_keys import create_api_key, key_id_of
from accounts.idempotency import ANSWER_LIMIT, LEASE, Execution, KeptAnswer, begin
from accounts.models import ApiKey, IdempotentRequest, User
from accounts.prune import prune_tasks
from accounts.tokens.issuing import issue_tokens
from accounts.users.profile import delete_account
from conftest import ApiClient, error_code
from lucid_gateway.policy.errors import RequestInProgress
from sessions_api.lifecycle import create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Manifest, Session, TrustPolicy
from sessions_api.policies import create_policy
from sessions_api.tests.scenarios import completed_session, record_chunks
from sessions_api.tests.trust import POLICY
from testing.parallel import in_parallel

KEY = "5f0c9e1a"
NAME = "A name that nobody else may read"
NEW_KEY = {"name": NAME, "permissions": ["user:read"]}
PATHS = {"session": "/sessions", "manifest": "/manifests", "policy": "/trust/policies", "api key": "/users/me/api-keys"}
KINDS = list(PATHS)
MODELS: dict[str, Any] = {"session": Session, "manifest": Manifest, "policy": TrustPolicy, "api key": ApiKey}
ID_FIELDS = {"session": "session_id", "manifest": "manifest_id", "policy": "policy_id", "api key": "key_id"}
# What makes a resource of the owner under a given key, beside the API.
Make = Callable[[uuid.UUID], Any]


@pytest.fixture
def done(owner: User) -> Session:
    """A completed session with a chunk, which has no manifest yet."""
    session = completed_session(owner)
    record_chunks(session, 7)
    return session


@pytest.fixture
def bodies(done: Session) -> dict[str, dict[str, Any]]:
    """A body for each kind of resource."""
    session, manifest = {"name": NAME, "metadata": {"ä": NAME}}, {"session_id": str(done.pk)}
    return {"session": session, "manifest": manifest, "policy": POLICY | {"name": NAME}, "api key": NEW_KEY}


@pytest.fixture
def makers(owner: User, done: Session) -> dict[str, Make]:
    user_id, rules = str(owner.pk), POLICY["rules"]
    return {
        "session": lambda key: create_session(user_id, session_id=key, name=NAME, max_size_bytes=2**30),
        "manifest": lambda key: make_manifest(done, manifest_id=key),
        "policy": lambda key: create_policy(user_id, policy_id=key, name=NAME, rules=rules),
        "api key": lambda key: create_api_key(owner, resource_id=key, name=NAME, permissions=["user:read"])[0],
    }


class Poster:
    """Sends POST requests with an Idempotency-Key."""

    def __init__(self, api: ApiClient, **credentials: str) -> None:
        self.api, self.credentials = api, credentials

    def __call__(self, path: str, data: Any, key: str | None = KEY) -> Any:
        named = self.credentials | ({"Idempotency-Key": key} if key is not None else {})
        return self.api.send("post", path, data, headers=named)


@pytest.fixture
def post(api: ApiClient, token: str) -> Poster:
    return Poster(api, Authorization=f"Bearer {token}")


def made(kind: str) -> list[Any]:
    """Return the resources of a kind, without the session of the manifest."""
    rows = MODELS[kind].objects.all()
    return list(rows.filter(status="active") if kind == "session" else rows)


def ids(kind: str, answers: list[Any]) -> set[str]:
    return {answer.json()[ID_FIELDS[kind]] for answer in answers}


def end_lease() -> None:
    """End the leases of all attempts."""
    IdempotentRequest.objects.update(lease_ends_at=timezone.now() - timedelta(seconds=1))


def outcome(answer: Any) -> str:
    """Return the outcome in the error of a refused repetition."""
    assert (answer.status_code, error_code(answer)) == (409, "4003")
    told: str = answer.json()["error"]["details"]["outcome"]
    return told


@pytest.mark.parametrize("kind", KINDS)
def test_a_repetition_gets_the_first_answer_and_creates_nothing(
    post: Poster, bodies: dict[str, Any], kind: str
) -> None:
    first, second = (post(PATHS[kind], bodies[kind]) for _ in range(2))

    assert first.status_code == second.status_code == 201
    assert (first.get("Idempotent-Replayed"), second["Idempotent-Replayed"]) == (None, "true")
    for name in ("Location", "ETag", "Cache-Control", "Content-Type"):
        assert first.get(name) == second.get(name)
    assert len(made(kind)) == 1
    assert second.content == first.content or kind == "api key"


def test_the_repetition_of_a_new_api_key_omits_its_secret(post: Poster, api: ApiClient, owner: User) -> None:
    first, second = (post(PATHS["api key"], NEW_KEY) for _ in range(2))
    secret = first.json()["api_key"]

    assert second.json() == first.json() | {"api_key": None}
    assert api.send("get", "/users/me", headers={"X-API-Key": secret}).status_code == 200
    [row] = IdempotentRequest.objects.values()
    assert secret not in KeptAnswer.unseal(row["answer"]).body


def test_a_repetition_gets_the_first_answer_even_after_a_deletion(post: Poster, api: ApiClient, token: str) -> None:
    first = post("/sessions", {"name": NAME})
    session = f"/sessions/{first.json()['session_id']}"
    api.send("patch", session, {"name": "Another"}, token=token)
    assert post("/sessions", {"name": NAME}).content == first.content

    api.send("patch", session, {"status": "cancelled"}, token=token)
    assert api.send("delete", session, token=token).status_code in (202, 204)
    assert post("/sessions", {"name": NAME}).content == first.content


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_repeated_as_well(post: Poster, kind: str) -> None:
    first, second = (post(PATHS[kind], {}) for _ in range(2))

    assert first.status_code == second.status_code == 422
    assert second["Idempotent-Replayed"] == "true"
    assert first.content == second.content


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_works_for_one_request(post: Poster, bodies: dict[str, Any], kind: str) -> None:
    post(PATHS[kind], bodies[kind])
    others = [post(PATHS[kind], bodies[kind] | {"other": 1}), post(f"{PATHS[kind]}?a=b", bodies[kind])]

    for other in others:
        assert (other.status_code, error_code(other)) == (422, "1001")
        [problem] = other.json()["error"]["details"]["validation_errors"]
        assert (problem["field"], problem["code"]) == ("Idempotency-Key", "reused")
        assert other.wsgi_request.META["lucid.record"].reason == "idempotency_key_reused"
    assert len(made(kind)) == 1


@pytest.mark.parametrize("key", ["", "a,b", "a b", "x" * 256, "\u00e4"])
def test_an_invalid_key_is_refused(post: Poster, key: str) -> None:
    answer = post("/sessions", {"name": NAME}, key)

    assert (answer.status_code, error_code(answer)) == (422, "1003")
    assert made("session") == []


def test_callers_do_not_share_keys(post: Poster, api: ApiClient, owner: User, stranger_token: str) -> None:
    text = create_api_key(owner, name="script", permissions=["session:create"])[1]
    callers = [post, Poster(api, Authorization=f"Bearer {stranger_token}"), Poster(api, **{"X-API-Key": text})]

    answers = [caller("/sessions", {"name": NAME}) for caller in callers]

    assert [answer.get("Idempotent-Replayed") for answer in answers] == [None] * 3
    assert len(ids("session", answers)) == 3


def test_each_request_without_a_key_is_new(post: Poster) -> None:
    answers = [post("/sessions", {"name": NAME}, None) for _ in range(2)]

    assert len(ids("session", answers)) == 2
    assert not IdempotentRequest.objects.exists()


def new_session(post: Poster, path: str, data: Any) -> uuid.UUID:
    """Leave a request as a worker that died before creating anything; return the id of the resource."""
    post(path, data)
    record = IdempotentRequest.objects.get()
    record.answer, record.resource_id, record.lease_ends_at = "", uuid.uuid4(), timezone.now() + LEASE
    record.save()
    return record.resource_id


@pytest.mark.parametrize("kind", KINDS)
def test_a_repetition_is_refused_while_the_first_is_in_progress(
    post: Poster, bodies: dict[str, Any], kind: str
) -> None:
    new_session(post, PATHS[kind], bodies[kind])
    again = post(PATHS[kind], bodies[kind])

    assert outcome(again) == "under_way"
    assert again["Retry-After"] == "1"
    assert error_code(post(PATHS[kind], {})) == "1001"
    assert len(made(kind)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_resource_created_by_a_killed_worker_is_not_created_again(
    post: Poster, bodies: dict[str, Any], makers: dict[str, Make], kind: str
) -> None:
    key = new_session(post, PATHS[kind], bodies[kind])
    for row in made(kind):
        row.delete()
    makers[kind](key)
    Session.objects.update(manifest_id=None)  # it did not even come that far
    end_lease()
    answers = [post(PATHS[kind], bodies[kind]) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert ids(kind, answers) == {key_id_of(key) if kind == "api key" else str(key)}
    assert len(made(kind)) == 1
    if kind == "api key":
        assert answers[0].json()["api_key"] is None
    if kind == "manifest":
        assert str(Session.objects.get().manifest_id) == str(key)


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("kind", KINDS)
def test_only_one_of_several_concurrent_attempts_creates_the_resource(makers: dict[str, Make], kind: str) -> None:
    key = uuid.uuid4()

    found = in_parallel(6, lambda _: makers[kind](key))

    assert len(made(kind)) == 1
    assert {row.pk for row in found} == {made(kind)[0].pk}


def test_one_request_does_not_use_the_last_slot_twice(owner: User, makers: dict[str, Make]) -> None:
    for _ in range(49):
        makers["policy"](uuid.uuid4())
    key = uuid.uuid4()

    assert makers["policy"](key) == makers["policy"](key)
    assert len(made("policy")) == 50


def attempt(owner: User) -> Execution | KeptAnswer:
    return begin(bucket="user:1", user_id=str(owner.pk), key=KEY, fingerprint="f")


@pytest.mark.parametrize(
    "answer",
    [
        KeptAnswer(503, {}, ""),
        KeptAnswer(500, {}, ""),
        KeptAnswer(429, {}, ""),
        KeptAnswer(201, {}, "x" * (ANSWER_LIMIT + 1)),
    ],
)
def test_after_an_unkept_answer_the_next_attempt_continues_with_the_same_resource(
    owner: User, answer: KeptAnswer
) -> None:
    first = attempt(owner)
    assert isinstance(first, Execution)
    first.finish(answer)

    second = attempt(owner)
    assert isinstance(second, Execution)
    assert (second.resource_id, second.attempt != first.attempt) == (first.resource_id, True)


def test_an_attempt_that_was_taken_over_stores_no_answer(owner: User) -> None:
    first = attempt(owner)
    end_lease()
    second = attempt(owner)
    assert isinstance(first, Execution)
    assert isinstance(second, Execution)

    first.finish(KeptAnswer(201, {}, "first"))
    with pytest.raises(RequestInProgress):
        attempt(owner)
    second.finish(KeptAnswer(201, {}, "second"))
    assert attempt(owner) == KeptAnswer(201, {}, "second")


def test_a_lease_from_a_fast_clock_does_not_block_the_key(owner: User) -> None:
    attempt(owner)
    IdempotentRequest.objects.update(lease_ends_at=timezone.now() + timedelta(hours=1))

    assert isinstance(attempt(owner), Execution)


@pytest.mark.usefixtures("transactional_db")
def test_only_one_of_several_concurrent_takeovers_succeeds(owner: User) -> None:
    attempt(owner)
    end_lease()

    def take_over(_: int) -> bool:
        try:
            return isinstance(attempt(owner), Execution)
        except RequestInProgress:
            return False

    assert in_parallel(6, take_over).count(True) == 1


def test_a_key_expires_after_a_day_and_prune_deletes_its_answer(post: Poster) -> None:
    first = post("/sessions", {"name": NAME})
    IdempotentRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    second = post("/sessions", {"name": NAME})
    assert len(ids("session", [first, second])) == 2

    [task] = [task for task in prune_tasks() if task.name == "idempotent_requests"]
    assert sum(task.run()) == 0
    IdempotentRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert sum(task.run()) == 1
    assert not IdempotentRequest.objects.exists()


def test_stored_answers_are_encrypted_and_deleted_with_the_account(post: Poster, owner: User) -> None:
    post("/sessions", {"name": NAME})
    [row] = IdempotentRequest.objects.values()
    assert NAME not in repr(row)
    assert KEY not in repr(row)

    delete_account(owner)
    assert not IdempotentRequest.objects.exists()


def test_an_unreadable_answer_is_not_repeated(post: Poster, settings: Settings, owner: User) -> None:
    post("/sessions", {"name": NAME})
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-for-anybody"
    post.credentials["Authorization"] = f"Bearer {issue_tokens(owner).access}"

    assert outcome(post("/sessions", {"name": NAME})) == "not_stored"
    assert len(made("session")) == 1

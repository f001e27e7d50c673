"""POST /manifests/{id}/anchor: pending, confirmed or failed, and safe to repeat whatever the chain does."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from pytest_django.fixtures import Settings

from accounts.models import User
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.routes import Timeouts
from proxy.clusters import cluster_named, configured
from proxy.connection.pool import pool_for
from proxy.forwarding.calls import TIMEOUTS
from proxy.operators.closing import close_cluster
from sessions_api import manifests
from sessions_api.models import Manifest, Session
from sessions_api.tests.conftest import a_session
from testing.http.cluster import OK, RawCluster, Visit, saying, saying_and_resetting
from testing.parallel import in_parallel

TRANSACTION = "ab" * 32


@pytest.fixture
def chain(settings: Settings) -> Iterator[RawCluster]:
    """The blockchain core."""
    with RawCluster() as cluster:
        settings.ENV = settings.ENV.model_copy(update={"BLOCKCHAIN_CORE_URL": (cluster.url,)})
        configured.cache_clear()
        yield cluster
        (instance,) = cluster_named("blockchain_core").instances
        for connection in pool_for(instance).idle:
            connection.close()
    configured.cache_clear()


@pytest.fixture
def manifest(owner: User) -> Manifest:
    """A manifest of a session of two chunks."""
    return manifests.make_manifest(a_session(owner, 1, 2))


def answers(chain: RawCluster, code: int, /, **data: Any) -> None:
    """Let the chain answer with this status code and JSON."""
    body = json.dumps(data).encode()
    chain.behaviour = saying(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (code, len(body), body))


def anchor(api: ApiClient, token: str, manifest: Manifest) -> Any:
    return api.send("post", f"/manifests/{manifest.pk}/anchor", token=token)


def told(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["anchor_status"]


def test_anchoring_submits_the_root(api: ApiClient, token: str, manifest: Manifest, chain: RawCluster) -> None:
    answers(chain, 202, transaction_id=TRANSACTION, status="pending")
    response = anchor(api, token, manifest)
    assert (told(response), response.json()["anchor_transaction_id"]) == ((202, "pending"), TRANSACTION)
    sent = json.loads(chain.request.body)
    assert (chain.request.start, sent["merkle_root"]) == ("POST /api/v1/transactions HTTP/1.1", manifest.merkle_root)
    assert (sent["manifest_id"], sent["type"], sent["chunk_count"]) == (str(manifest.pk), "session_anchor", 2)


def test_a_repeated_request_returns_the_confirmed_transaction(
    api: ApiClient, token: str, manifest: Manifest, chain: RawCluster
) -> None:
    answers(chain, 202, transaction_id=TRANSACTION, status="pending")
    anchor(api, token, manifest)
    answers(chain, 200, transaction_id=TRANSACTION, status="confirmed", block_height=7)
    response = anchor(api, token, manifest)
    assert (told(response), response.json()["anchor_block_height"]) == ((200, "confirmed"), 7)
    assert response.json()["blockchain_anchored"] is True
    assert chain.requests[-1].start == f"GET /api/v1/transactions/{TRANSACTION} HTTP/1.1"
    assert AuditEvent.objects.filter(type="manifest.anchor_confirmed").count() == 1


def test_a_confirmed_anchor_is_not_requested_again(
    api: ApiClient, token: str, manifest: Manifest, chain: RawCluster
) -> None:
    answers(chain, 200, transaction_id=TRANSACTION, status="confirmed")
    for _ in range(3):
        assert told(anchor(api, token, manifest)) == (200, "confirmed")
    assert len(chain.requests) == 1


@pytest.mark.parametrize(
    "refusal",
    [(400, {}), (422, {"error": "no"}), (200, {}), (200, {"transaction_id": 7}), (200, {"transaction_id": "x" * 200}),
     (202, {"transaction_id": "é", "status": "pending"}), (202, {"transaction_id": "a\r\nb: c", "status": "pending"}),
     (200, {"transaction_id": TRANSACTION, "status": "rejected"})],
)  # fmt: skip
def test_a_refused_attempt_has_failed_and_can_be_retried(
    api: ApiClient, token: str, manifest: Manifest, chain: RawCluster, refusal: tuple[int, dict[str, Any]]
) -> None:
    answers(chain, refusal[0], **refusal[1])
    assert told(anchor(api, token, manifest)) == (200, "failed")
    answers(chain, 202, transaction_id=TRANSACTION, status="pending")
    assert told(anchor(api, token, manifest)) == (202, "pending")
    keys = [dict(request.fields)["idempotency-key"] for request in chain.requests]
    assert keys[0] != keys[1]  # another attempt


def test_a_transaction_id_is_quoted_in_the_path(
    api: ApiClient, token: str, manifest: Manifest, chain: RawCluster
) -> None:
    answers(chain, 202, transaction_id="a/../b?c#d%", status="pending")
    for _ in range(2):
        assert told(anchor(api, token, manifest)) == (202, "pending")
    assert chain.requests[-1].target == "/api/v1/transactions/a%2F..%2Fb%3Fc%23d%25"


@pytest.mark.parametrize("height", [2**63, -1, "7", True, None])
def test_an_invalid_block_height_is_ignored(
    api: ApiClient, token: str, manifest: Manifest, chain: RawCluster, height: Any
) -> None:
    answers(chain, 200, transaction_id=TRANSACTION, status="confirmed", block_height=height)
    response = anchor(api, token, manifest)
    assert (told(response), response.json()["anchor_block_height"]) == ((200, "confirmed"), None)


@pytest.mark.parametrize("behaviour", [saying_and_resetting(), saying(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")])
def test_an_attempt_with_an_unknown_outcome_is_repeated_with_the_same_key(
    api: ApiClient, token: str, manifest: Manifest, chain: RawCluster, behaviour: Any
) -> None:
    chain.behaviour = behaviour
    response = anchor(api, token, manifest)
    assert (response.status_code, error_code(response)) == (503, "4009")
    answers(chain, 202, transaction_id=TRANSACTION, status="pending")
    assert told(anchor(api, token, manifest)) == (202, "pending")
    assert len({dict(request.fields)["idempotency-key"] for request in chain.requests}) == 1


def test_a_hanging_chain_gets_503_in_bounded_time(
    api: ApiClient, token: str, manifest: Manifest, chain: RawCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TIMEOUTS.total <= 15
    monkeypatch.setattr(
        "proxy.forwarding.calls.call.__kwdefaults__", {**call_defaults(), "timeouts": Timeouts(0.2, 0.2, 0.2)}
    )
    chain.behaviour = saying()
    assert error_code(anchor(api, token, manifest)) == "4009"
    manifest.refresh_from_db()
    assert manifest.anchor_status == "pending"


def call_defaults() -> dict[str, Any]:
    from proxy.forwarding.calls import call

    return dict(call.__kwdefaults__ or {})


@pytest.mark.django_db(transaction=True)
def test_changes_during_the_request_to_the_chain_are_kept(
    transactional_db: None, owner: User, token: str, chain: RawCluster
) -> None:
    manifest = manifests.make_manifest(a_session(owner, 1))
    answers(chain, 200, transaction_id=TRANSACTION, status="confirmed")
    confirm = chain.behaviour

    def change_twice(visit: Visit) -> None:
        for number in range(2):
            path, data = f"/manifests/{manifest.pk}", {"metadata": {"n": number}}
            assert ApiClient(HTTP_HOST="testserver").send("put", path, data, token=token).status_code == 200
        connection.close()
        confirm(visit)

    chain.behaviour = change_twice
    assert told(anchor(ApiClient(HTTP_HOST="testserver"), token, manifest)) == (200, "confirmed")
    manifest.refresh_from_db()
    assert (manifest.metadata, manifest.version) == ({"n": 1}, 4)  # two changes and the end of the attempt


@pytest.mark.django_db(transaction=True)
def test_a_session_deleted_during_the_request_to_the_chain_is_not_found(
    transactional_db: None, api: ApiClient, owner: User, token: str, chain: RawCluster
) -> None:
    manifest = manifests.make_manifest(a_session(owner, 1))

    def delete(visit: Visit) -> None:
        Session.objects.filter(pk=manifest.session_id).delete()
        connection.close()
        visit.send(OK)

    chain.behaviour = delete
    assert error_code(anchor(api, token, manifest)) == "4001"


@pytest.mark.django_db(transaction=True)
def test_parallel_requests_make_one_attempt(transactional_db: None, owner: User, token: str, chain: RawCluster) -> None:
    manifest = manifests.make_manifest(a_session(owner, 1))
    answers(chain, 202, transaction_id=TRANSACTION, status="pending")
    statuses = in_parallel(8, lambda _: anchor(ApiClient(HTTP_HOST="testserver"), token, manifest).status_code)
    assert set(statuses) == {202}
    posts = [request for request in chain.requests if request.method == "POST"]
    assert len({dict(request.fields)["idempotency-key"] for request in posts}) == 1
    assert AuditEvent.objects.filter(type="manifest.anchoring").count() == 1


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_an_attempt_without_an_outcome_stays_the_same_attempt(
    *, api: ApiClient, token: str, manifest: Manifest, chain: RawCluster, status: int
) -> None:
    answers(chain, status, detail="in progress")
    refused = anchor(api, token, manifest)
    assert (refused.status_code, error_code(refused)) == (503, "4009")
    assert refused.json()["error"]["details"]["anchor_status"] == "pending"

    answers(chain, 202, transaction_id=TRANSACTION, status="pending")
    assert told(anchor(api, token, manifest)) == (202, "pending")
    keys = {dict(request.fields)["idempotency-key"] for request in chain.requests}
    assert (len(chain.requests), len(keys)) == (2, 1)


def test_an_invalid_manifest_is_not_anchored(api: ApiClient, token: str, manifest: Manifest, chain: RawCluster) -> None:
    Manifest.objects.filter(pk=manifest.pk).update(validation_status="invalid")
    refused = anchor(api, token, manifest)
    assert (refused.status_code, error_code(refused)) == (409, "4003")
    assert chain.requests == []


def test_no_attempt_begins_while_the_chain_is_in_maintenance(
    api: ApiClient, token: str, manifest: Manifest, chain: RawCluster
) -> None:
    close_cluster(cluster="blockchain_core", kind="maintenance", reason="why", by="me")
    refused = anchor(api, token, manifest)
    assert (refused.status_code, error_code(refused)) == (503, "5009")
    manifest.refresh_from_db()
    assert (manifest.anchor_status, chain.requests) == ("none", [])

"""The gateway behaves as its OpenAPI document says: schemathesis calls each operation with valid and invalid data."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyotp
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.tests.conftest import RESET, WALLET_ADDRESS, code_in, signature_of, token_in
from demo.launch import running_clusters
from testing.gateway import Gateway, running_gateway
from testing.mail import Mailbox, running_smtp_server
from testing.servers import ROOT
from testing.waiting import wait_until

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENT = schemathesis.openapi.from_path(ROOT / "docs" / "openapi.yaml")
OPERATIONS = [found.ok() for found in DOCUMENT.get_all_operations()]
API = "/api/v1"
FORWARDED = tuple(f"{API}/{name}" for name in ("blockchain-info", "chain", "wallets", "rdp", "nodes", "storage"))
PASSWORD = "Correct-Horse-7"
# Runs in the gateway's environment: creates a super admin for each operation, with all that the operation may use up.
CAST = f"""
import json
from django.contrib.auth.hashers import make_password
from accounts.api_keys import create_api_key
from accounts.models import IssuedToken, User
from accounts.factors.recovery import ensure_recovery_codes
from accounts.tokens.issuing import issue_tokens
from accounts.factors.totp import enrol
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk, Session

def completed(user):
    session = Session.objects.create(user=user, name="completed", status="completed")
    Chunk.objects.create(session=session, index=0, size=1, hash="00" * 32, state="recorded")
    return session

cast, password = {{}}, make_password({PASSWORD!r})
for number, label in enumerate({[operation.label for operation in OPERATIONS]!r}):
    name = f"actor-{{number}}"
    role = "user" if label == "DELETE {API}/users/me" else "super_admin"  # staff do not delete themselves
    user = User.objects.create(email=f"{{name}}@lucid.test", username=name, password=password, role=role)
    target = User.objects.create(email=f"target-{{name}}@lucid.test", username=f"target-{{name}}")
    device, pair = issue_tokens(user), issue_tokens(user)
    session = Session.objects.create(user=user, name="a session")
    chunk = Chunk.objects.create(session=session, index=0, size=1, hash="0" * 64, state="recorded")
    cast[label] = {{
        "user_id": str(user.pk), "email": user.email, "access": pair.access, "refresh": device.refresh,
        "family": str(IssuedToken.objects.filter(user=user).first().family), "target_id": str(target.pk),
        "key_id": create_api_key(user, name="key", permissions=["user:read"])[0].key_id,
        "completed_id": str(completed(user).pk), "manifest_id": str(make_manifest(completed(user)).pk),
        "session_id": str(session.pk), "chunk_id": str(chunk.pk),
        "totp": enrol(user).secret if "/totp" in label else "", "recovery_code": ensure_recovery_codes(user)[0],
    }}
    enabled = {{"DELETE {API}/auth/totp": "totp", "DELETE {API}/auth/hardware-wallet": "hardware_wallet"}}
    if label in enabled:
        User.objects.filter(pk=user.pk).update(**{{f"{{enabled[label]}}_enabled": True}})
print(json.dumps(cast))
"""


@dataclass(frozen=True)
class Actor:
    """The caller of an operation, whose effects do not touch the other callers."""

    gateway: Gateway
    mailbox: Mailbox
    user_id: str
    email: str
    access: str
    refresh: str
    family: str
    target_id: str
    key_id: str
    completed_id: str
    manifest_id: str
    session_id: str
    chunk_id: str
    totp: str
    recovery_code: str

    @property
    def headers(self) -> dict[str, str]:
        """The actor's credential."""
        return {"Authorization": f"Bearer {self.access}"}

    def ask(self, method: str, path: str, **data: Any) -> Any:
        """Send a request that prepares the tested one; return the answer's JSON."""
        response = requests.request(method, f"{self.gateway.url}{path}", json=data, headers=self.headers, timeout=10)
        assert response.status_code < 300, response.text
        return response.json()

    def mailed_code(self) -> str:
        """Request a login code and return it."""
        self.ask("POST", "/auth/login", email=self.email)
        return code_in(self.mailbox, self.email)

    def mailed_reset(self) -> str:
        """Request a password reset and return the token of its link."""
        self.ask("POST", "/auth/password/reset", email=self.email)
        return token_in(self.mailbox, self.email, subject=RESET)

    def mailed_confirmation(self) -> str:
        """Request a change of the email address and return the token of the confirmation link."""
        self.ask("PATCH", "/users/me", email=f"new-{self.email}", current_password=PASSWORD)
        return token_in(self.mailbox, f"new-{self.email}", subject="Confirm your new email address")

    def signature(self) -> str:
        """Request the challenge of a wallet registration and return its signature."""
        return signature_of(self.ask("POST", "/auth/hardware-wallet", address=WALLET_ADDRESS)["challenge"])

    def kept_request(self) -> str:
        """Send requests that are refused until one is kept, and return its id: of an address, 20 a second are kept."""
        sent: list[str] = []

        def kept() -> str | None:
            sent.append(requests.get(f"{self.gateway.url}/nowhere", timeout=10).headers["X-Request-ID"])
            return next((refused for refused in sent if self.is_kept(refused)), None)

        return wait_until(kept, every=1.0)

    def is_kept(self, request_id: str) -> bool:
        page = f"{self.gateway.url}/admin/requests/{request_id}"
        return requests.get(page, headers=self.headers, timeout=10).status_code == 200


def body(**fields: Any) -> dict[str, Any]:
    return {"body": fields, "media_type": "application/json"}


def on(user_id: str, **fields: Any) -> dict[str, Any]:
    return {"path_parameters": {"user_id": user_id}} | (body(**fields) if fields else {})


def of_manifest(actor: Actor, **more: str) -> dict[str, Any]:
    return {"path_parameters": {"manifest_id": actor.manifest_id, **more}}


def chunk_of(actor: Actor, **more: str) -> dict[str, Any]:
    return {"path_parameters": {"session_id": actor.session_id} | more}


def uploaded(actor: Actor) -> dict[str, Any]:
    octets = {"body": b"a chunk", "media_type": "application/octet-stream", "headers": {"X-Chunk-Index": "1"}}
    return chunk_of(actor) | octets


def denied(actor: Actor, network: str) -> dict[str, Any]:
    actor.ask("POST", "/admin/blocked-addresses", network=network, reason="a flood")
    return {"query": {"network": network}}


def limited(actor: Actor, tier: str) -> dict[str, Any]:
    actor.ask("POST", "/admin/limits", tier=tier, limit=50)
    return {"query": {"tier": tier}}


def closed(actor: Actor) -> dict[str, Any]:
    later = {"kind": "drain", "reason": "x", "starts_at": "2999-01-01T00:00:00Z"}
    begun = actor.ask("POST", "/admin/clusters/tron_payment/maintenance", **later)
    return {"path_parameters": {"name": "tron_payment"}, "query": {"maintenance_id": begun["maintenance_id"]}}


RULE = {"rule_id": "r", "type": "allow", "condition": "user.age >= 18", "action": "session.view", "priority": 1}
POLICY = {"name": "Adults", "rules": [RULE]}


def on_policy(actor: Actor, query: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    policy = actor.ask("POST", "/trust/policies", **POLICY)
    at = {"path_parameters": {"policy_id": policy["policy_id"]}, "query": query or {}}
    return at | (body(**fields) if fields else {})


def on_a_session(actor: Actor, **fields: Any) -> dict[str, Any]:
    session_id = actor.ask("POST", "/sessions", name="A session")["session_id"]
    return {"path_parameters": {"session_id": session_id}} | (body(**fields) if fields else {})


# Valid requests for operations for which generated data is hardly ever valid.
GOOD: list[tuple[str, Callable[[Actor], dict[str, Any]]]] = [
    ("POST /auth/verify", lambda actor: body(email=actor.email, code=actor.mailed_code())),
    ("POST /auth/refresh", lambda actor: body(refresh_token=actor.refresh)),
    ("POST /auth/password/reset/confirm", lambda actor: body(token=actor.mailed_reset(), password="Other-Horse-7")),
    ("POST /auth/password/change", lambda actor: body(current_password=PASSWORD, password="Other-Horse-7")),
    ("POST /auth/email/confirm", lambda actor: body(token=actor.mailed_confirmation())),
    ("POST /auth/totp/confirm", lambda actor: body(totp=pyotp.TOTP(actor.totp).now())),
    ("DELETE /auth/totp", lambda actor: body(recovery_code=actor.recovery_code)),
    ("POST /auth/hardware-wallet", lambda actor: body(address=WALLET_ADDRESS)),
    ("POST /auth/hardware-wallet/confirm", lambda actor: body(signature=actor.signature())),
    ("DELETE /auth/hardware-wallet", lambda actor: body(recovery_code=actor.recovery_code)),
    ("DELETE /auth/sessions/{session_id}", lambda actor: {"path_parameters": {"session_id": actor.family}}),
    ("POST /users", lambda actor: body(email="ada@example.org", username="ada", password=PASSWORD)),
    ("PUT /users/me", lambda actor: body(email=actor.email, username="ada-lovelace", first_name="Ada")),
    ("PATCH /users/me", lambda actor: body(email=f"new-{actor.email}", current_password=PASSWORD)),
    ("GET /users/{user_id}", lambda actor: on(actor.target_id)),
    ("DELETE /users/me/api-keys/{key_id}", lambda actor: {"path_parameters": {"key_id": actor.key_id}}),
    ("GET /admin/users", lambda actor: {"query": {"q": "actor", "limit": 3, "sort": "email"}}),
    ("GET /admin/audit", lambda actor: {"query": {"type": "api_key.", "limit": 3, "outcome": "success"}}),
    ("GET /admin/audit", lambda actor: {"query": {"type": "api_key.", "format": "csv"}}),
    ("GET /admin/audit", lambda actor: {"query": {"type": "api_key.", "format": "jsonl"}}),
    ("GET /admin/requests", lambda actor: {"query": {"status": "404", "limit": 3, "since": "1h"}}),
    (
        "GET /admin/requests/{request_id}",
        lambda actor: {"path_parameters": {"request_id": actor.kept_request()}},
    ),
    ("POST /admin/users/{user_id}/lock", lambda actor: on(actor.target_id, reason="stolen laptop")),
    ("POST /admin/users/{user_id}/unlock", lambda actor: on(actor.target_id)),
    ("POST /admin/users/{user_id}/role", lambda actor: on(actor.target_id, role="node_operator")),
    ("POST /admin/users/{user_id}/revoke-tokens", lambda actor: on(actor.target_id)),
    ("POST /admin/blocked-addresses", lambda actor: body(network="198.51.100.0/24", reason="a flood")),
    ("DELETE /admin/blocked-addresses", lambda actor: denied(actor, "203.0.113.0/24")),
    ("POST /admin/preview", lambda actor: body(user_id=actor.target_id, method="GET", path="/api/v1/chain/info")),
    ("POST /manifests", lambda actor: body(session_id=actor.completed_id)),
    ("GET /manifests/{manifest_id}", of_manifest),
    ("PUT /manifests/{manifest_id}", lambda actor: of_manifest(actor) | body(metadata={"a": 1})),
    ("POST /manifests/{manifest_id}/anchor", of_manifest),
    ("GET /manifests/{manifest_id}/proof/{index}", lambda actor: of_manifest(actor, index="0")),
    ("GET /admin/shadow-refusals", lambda actor: {"query": {"tier": "public"}}),
    ("POST /admin/limits", lambda actor: body(tier="public", limit=50)),
    ("GET /trust/policies", lambda actor: {"query": {"enabled": "true", "name": "adult", "sort": "name"}}),
    ("POST /trust/policies", lambda actor: body(**POLICY)),
    ("GET /trust/policies/{policy_id}", on_policy),
    ("PUT /trust/policies/{policy_id}", lambda actor: on_policy(actor, **POLICY)),
    ("PATCH /trust/policies/{policy_id}", lambda actor: on_policy(actor, enabled=False)),
    ("DELETE /trust/policies/{policy_id}", lambda actor: on_policy(actor, {"detach": "true"})),
    ("POST /trust/policies/{policy_id}/evaluate", lambda actor: on_policy(actor, action="session.view", context={})),
    ("GET /sessions/{session_id}/chunks", chunk_of),
    ("POST /sessions/{session_id}/chunks", uploaded),
    ("GET /sessions/{session_id}/chunks/{chunk_id}", lambda actor: chunk_of(actor, chunk_id=actor.chunk_id)),
    ("DELETE /admin/limits", lambda actor: limited(actor, "admin")),
    (
        "POST /admin/clusters/{name}/maintenance",
        lambda _: (
            {"path_parameters": {"name": "blockchain_core"}}
            | body(kind="drain", reason="x", starts_at="2999-01-01T00:00:00Z")
        ),
    ),
    ("DELETE /admin/clusters/{name}/maintenance", closed),
    ("GET /sessions", lambda actor: {"query": {"status": "active", "name": "a", "sort": "name"}}),
    ("POST /sessions", lambda actor: body(name="A session", metadata={"ticket": 4711}, max_size_bytes=2**20)),
    ("GET /sessions/{session_id}", on_a_session),
    ("PUT /sessions/{session_id}", lambda actor: on_a_session(actor, name="Another name")),
    ("PATCH /sessions/{session_id}", lambda actor: on_a_session(actor, status="completed")),
    ("DELETE /sessions/{session_id}", on_a_session),
]


@pytest.fixture(scope="module")
def cast() -> Iterator[dict[str, Actor]]:
    """The actor of each operation, on a gateway without limits."""
    with running_clusters() as clusters, running_smtp_server() as (mailbox, port), running_gateway(
        API_DOCS_ENABLED="true", RATE_LIMIT_ENABLED="false", LOGINS_PER_ACCOUNT="1000",
        EMAIL_HOST="127.0.0.1", EMAIL_PORT=str(port),
        BLOCKCHAIN_CORE_URL=clusters.blockchain_core, TRON_PAYMENT_URL=clusters.tron_payment,
        SESSION_MANAGEMENT_URL=clusters.session_management,
        RDP_SERVICES_URL=clusters.session_management, NODE_MANAGEMENT_URL=clusters.session_management,
        STORAGE_DATABASE_URL=clusters.session_management,
    ) as gateway:  # fmt: skip
        people = json.loads(gateway.manage("shell", "--no-imports", "--command", CAST))
        yield {label: Actor(gateway, mailbox, **person) for label, person in people.items()}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_operation_answers_as_documented(operation: Any, cast: dict[str, Actor]) -> None:
    actor, statuses = cast[operation.label], []
    base = f"http://127.0.0.1:{actor.gateway.port}"

    def call(case: Any) -> None:
        response = case.call_and_validate(base_url=base, headers=actor.headers, checks=CHECKS)
        statuses.append(response.status_code)

    made_up = given(operation.as_strategy())
    settings(max_examples=8, suppress_health_check=list(HealthCheck))(made_up(call))()
    for label, good in GOOD:
        if label == operation.label.replace(API, ""):
            call(operation.Case(**good(actor)))
            assert statuses[-1] < 300

    assert 429 not in statuses
    assert operation.path.startswith(FORWARDED) or any(status < 300 for status in statuses), statuses

"""Access to every operation of the API document, for every kind of caller."""

import uuid
from typing import Any

import pytest

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from conftest import ApiClient, error_code, make_user
from lucid_gateway.policy.roles import PERMISSIONS, Role
from lucid_gateway.policy.routes import OWN_PATHS
from testing.openapi import openapi_document

# A column for each caller: + is admitted, . is 401, x is 403. Both keys belong to a super admin: one has all
# permissions, the other has blockchain:read.
CALLERS = ("anonymous", "user", "node_operator", "admin", "super_admin", "all_key", "chain_key")
TABLE = """
GET    /                                            + + + + + + +
GET    /.well-known/jwks.json                       + + + + + + +
GET    /api/v1/meta/info                            + + + + + + +
GET    /api/v1/meta/version                         + + + + + + +
GET    /api/v1/meta/health                          + + + + + + +
GET    /api/v1/meta/health/live                     + + + + + + +
GET    /api/v1/meta/health/ready                    + + + + + + +
GET    /api/v1/meta/metrics                         . x + + + + x

POST   /api/v1/auth/login                           + + + + + + +
POST   /api/v1/auth/verify                          + + + + + + +
POST   /api/v1/auth/refresh                         + + + + + + +
POST   /api/v1/auth/password/reset                  + + + + + + +
POST   /api/v1/auth/password/reset/confirm          + + + + + + +
POST   /api/v1/auth/email/confirm                   + + + + + + +
POST   /api/v1/auth/logout                          . + + + + x x
GET    /api/v1/auth/status                          . + + + + + x
GET    /api/v1/auth/sessions                        . + + + + x x
DELETE /api/v1/auth/sessions/{session_id}           . + + + + x x
POST   /api/v1/auth/totp                            . + + + + x x
DELETE /api/v1/auth/totp                            . + + + + x x
POST   /api/v1/auth/totp/confirm                    . + + + + x x
POST   /api/v1/auth/hardware-wallet                 . + + + + x x
DELETE /api/v1/auth/hardware-wallet                 . + + + + x x
POST   /api/v1/auth/hardware-wallet/confirm         . + + + + x x
POST   /api/v1/auth/password/change                 . + + + + x x

POST   /api/v1/users                                + + + + + + +
GET    /api/v1/users/me                             . + + + + + x
PUT    /api/v1/users/me                             . + + + + x x
PATCH  /api/v1/users/me                             . + + + + x x
DELETE /api/v1/users/me                             . + + + + x x
GET    /api/v1/users/me/api-keys                    . + + + + x x
POST   /api/v1/users/me/api-keys                    . + + + + x x
DELETE /api/v1/users/me/api-keys/{key_id}           . + + + + x x
GET    /api/v1/users/me/usage                       . + + + + + x
GET    /api/v1/users/{user_id}                      . x x + + + x
GET    /api/v1/users/me/requests                    . + + + + + x

GET    /api/v1/admin/users                          . x x + + + x
GET    /api/v1/admin/requests                       . x x + + + x
GET    /api/v1/admin/requests/{request_id}          . x x + + + x
POST   /api/v1/admin/users/{user_id}/lock           . x x + + + x
POST   /api/v1/admin/users/{user_id}/unlock         . x x + + + x
POST   /api/v1/admin/users/{user_id}/role           . x x x + + x
POST   /api/v1/admin/users/{user_id}/revoke-tokens  . x x + + + x
POST   /api/v1/admin/preview                        . x x + + + x
GET    /api/v1/admin/audit                          . x x + + + x
GET    /api/v1/admin/blocked-addresses              . x x + + + x
POST   /api/v1/admin/blocked-addresses              . x x + + + x
DELETE /api/v1/admin/blocked-addresses              . x x + + + x
GET    /api/v1/admin/shadow-refusals                . x x + + + x
GET    /api/v1/admin/limits                         . x x + + + x
POST   /api/v1/admin/limits                         . x x + + + x
DELETE /api/v1/admin/limits                         . x x + + + x
GET    /api/v1/admin/clusters                       . x x + + + x
POST   /api/v1/admin/clusters/{name}/maintenance    . x x + + + x
DELETE /api/v1/admin/clusters/{name}/maintenance    . x x + + + x

GET    /api/v1/sessions                             . + + + + + x
POST   /api/v1/sessions                             . + + + + + x
GET    /api/v1/sessions/{session_id}                . + + + + + x
PUT    /api/v1/sessions/{session_id}                . + + + + + x
PATCH  /api/v1/sessions/{session_id}                . + + + + + x
DELETE /api/v1/sessions/{session_id}                . + + + + + x
GET    /api/v1/sessions/{session_id}/chunks         . + + + + + x
POST   /api/v1/sessions/{session_id}/chunks         . + + + + + x
GET    /api/v1/sessions/{session_id}/chunks/{chunk_id} . + + + + + x

GET    /api/v1/manifests                            . + + + + + x
POST   /api/v1/manifests                            . + + + + + x
GET    /api/v1/manifests/{manifest_id}              . + + + + + x
PUT    /api/v1/manifests/{manifest_id}              . + + + + + x
POST   /api/v1/manifests/{manifest_id}/anchor       . + + + + + x
GET    /api/v1/manifests/{manifest_id}/proof/{index} . + + + + + x

GET    /api/v1/trust/policies                       . + + + + + x
POST   /api/v1/trust/policies                       . + + + + + x
GET    /api/v1/trust/policies/{policy_id}           . + + + + + x
PUT    /api/v1/trust/policies/{policy_id}           . + + + + + x
PATCH  /api/v1/trust/policies/{policy_id}           . + + + + + x
DELETE /api/v1/trust/policies/{policy_id}           . + + + + + x
POST   /api/v1/trust/policies/{policy_id}/evaluate  . + + + + + x

GET    /api/v1/blockchain-info                      . + + + + + +
GET    /api/v1/chain/info                           . + + + + + +
GET    /api/v1/chain/status                         . + + + + + +
GET    /api/v1/chain/height                         . + + + + + +
GET    /api/v1/chain/network                        . + + + + + +
GET    /api/v1/chain/blocks                         . + + + + + +
GET    /api/v1/chain/blocks/{rest}                  . + + + + + +
GET    /api/v1/chain/transactions                   . + + + + + +
POST   /api/v1/chain/transactions                   . x + + + + x
GET    /api/v1/chain/transactions/{rest}            . + + + + + +
GET    /api/v1/chain/anchoring                      . + + + + + +
GET    /api/v1/chain/anchoring/{rest}               . + + + + + +
GET    /api/v1/chain/consensus                      . + + + + + +
GET    /api/v1/chain/consensus/{rest}               . + + + + + +
GET    /api/v1/chain/merkle                         . + + + + + +
GET    /api/v1/chain/merkle/{rest}                  . + + + + + +

GET    /api/v1/wallets                              . + + + + + x
POST   /api/v1/wallets                              . + + + + + x
PUT    /api/v1/wallets                              . + + + + + x
PATCH  /api/v1/wallets                              . + + + + + x
DELETE /api/v1/wallets                              . + + + + + x
GET    /api/v1/wallets/{rest}                       . + + + + + x
POST   /api/v1/wallets/{rest}                       . + + + + + x
PUT    /api/v1/wallets/{rest}                       . + + + + + x
PATCH  /api/v1/wallets/{rest}                       . + + + + + x
DELETE /api/v1/wallets/{rest}                       . + + + + + x
GET    /api/v1/rdp                                  . + + + + + x
POST   /api/v1/rdp                                  . + + + + + x
PUT    /api/v1/rdp                                  . + + + + + x
PATCH  /api/v1/rdp                                  . + + + + + x
DELETE /api/v1/rdp                                  . + + + + + x
POST   /api/v1/rdp/tickets                          . + + + + + x
GET    /api/v1/rdp/{rest}                           . + + + + + x
POST   /api/v1/rdp/{rest}                           . + + + + + x
PUT    /api/v1/rdp/{rest}                           . + + + + + x
PATCH  /api/v1/rdp/{rest}                           . + + + + + x
DELETE /api/v1/rdp/{rest}                           . + + + + + x
GET    /api/v1/nodes                                . + + + + + x
POST   /api/v1/nodes                                . x + + + + x
PUT    /api/v1/nodes                                . x + + + + x
PATCH  /api/v1/nodes                                . x + + + + x
DELETE /api/v1/nodes                                . x + + + + x
GET    /api/v1/nodes/{rest}                         . + + + + + x
POST   /api/v1/nodes/{rest}                         . x + + + + x
PUT    /api/v1/nodes/{rest}                         . x + + + + x
PATCH  /api/v1/nodes/{rest}                         . x + + + + x
DELETE /api/v1/nodes/{rest}                         . x + + + + x
GET    /api/v1/storage                              . + + + + + x
POST   /api/v1/storage                              . + + + + + x
PUT    /api/v1/storage                              . + + + + + x
PATCH  /api/v1/storage                              . + + + + + x
DELETE /api/v1/storage                              . + + + + + x
GET    /api/v1/storage/{rest}                       . + + + + + x
POST   /api/v1/storage/{rest}                       . + + + + + x
PUT    /api/v1/storage/{rest}                       . + + + + + x
PATCH  /api/v1/storage/{rest}                       . + + + + + x
DELETE /api/v1/storage/{rest}                       . + + + + + x
"""
ROWS = {(method, path): marks for method, path, *marks in (line.split() for line in TABLE.splitlines() if line)}
CLUSTERS = ("blockchain-info", "chain", "wallets", "rdp", "nodes", "storage")
FORWARDED = tuple(f"/api/v1/{name}" for name in CLUSTERS)
REFUSALS = {(401, "2001"): ".", (403, "2004"): "x"}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def headers_of(caller: str) -> dict[str, str]:
    """Return headers with a new credential, because the last request may have ended the caller's tokens or account."""
    if caller == "anonymous":
        return {}
    by_key = caller.endswith("_key")
    role, name = Role.SUPER_ADMIN if by_key else Role(caller), caller.replace("_", "-")
    user = User.objects.active_user(username=name) or make_user(name, role)
    if not by_key:
        return {"Authorization": f"Bearer {issue_tokens(user).access}"}
    permissions = sorted(PERMISSIONS[role]) if caller == "all_key" else ["blockchain:read"]
    user.api_keys.all().delete()  # a user can have fifty at most
    return {"X-API-Key": create_api_key(user, name=caller, permissions=permissions)[1]}


def mark_of(path: str, response: Any) -> str:
    """Return the table's mark for the answer, or the answer itself if the table has no mark for it."""
    answer = response.status_code, error_code(response) if response.status_code >= 400 else ""
    forwarded = path.startswith(FORWARDED) and path.removeprefix("/api/v1/") not in OWN_PATHS
    admitted = (502, 503) if forwarded else (200, 201, 204, 400, 404, 409, 415, 422)
    return REFUSALS.get(answer) or ("+" if response.status_code in admitted else str(answer))


def target_of(path: str) -> str:
    """Return a path of the table with ids of rows that do not exist."""
    ids = {name: uuid.uuid4() for name in ("session_id", "chunk_id", "user_id", "manifest_id", "policy_id")}
    return path.format(**ids, key_id="abcdefghijkl", request_id="some-request", index=0, rest="1", name="wallets")


def mark_for(api: ApiClient, method: str, path: str, headers: dict[str, str]) -> str:
    """Return the table's mark for the operation with the headers."""
    return mark_of(path, api.generic(method, target_of(path), headers=headers))


@pytest.mark.urls("testing.every_route")
@pytest.mark.parametrize("caller", CALLERS)
def test_each_caller_is_admitted_where_the_table_says(api: ApiClient, db: None, caller: str) -> None:
    found = {row: mark_for(api, *row, headers_of(caller)) for row in ROWS}

    assert found == {row: marks[CALLERS.index(caller)] for row, marks in ROWS.items()}


@pytest.mark.urls("testing.every_route")
def test_a_key_without_permissions_is_admitted_only_where_anyone_is(api: ApiClient, super_admin: User) -> None:
    headers = {"X-API-Key": create_api_key(super_admin, name="a key for nothing", permissions=[])[1]}
    found = {row: mark_for(api, *row, headers) for row in ROWS}

    assert found == {row: "+" if marks[0] == "+" else "x" for row, marks in ROWS.items()}


def test_the_table_lists_exactly_the_operations_of_the_document() -> None:
    paths = openapi_document()["paths"]
    documented = [(method.upper(), path) for path, operations in paths.items() for method in METHODS & set(operations)]

    assert sorted(ROWS) == sorted(documented)

"""GET /admin/requests and GET /admin/requests/{request_id}."""

from datetime import timedelta
from typing import Any

import pytest

from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from accounts.users.locks import lock_user
from conftest import ApiClient, error_code
from lucid_gateway.explorer.rows import row_of
from lucid_gateway.explorer.tests.stage import finished, kept
from lucid_gateway.kernel.record import AttemptRecord, Claim
from lucid_gateway.policy.errors import InsufficientPermissions, UpstreamUnreachable
from lucid_gateway.policy.reasons import Step

MINUTE = timedelta(minutes=1)
SHAPE = {
    "request_id", "plane", "method", "path", "route", "status", "error_code", "reason", "started_at", "duration_ms",
    "client", "user_id", "credential", "steps", "attempts",
}  # fmt: skip
EXPLAINED = SHAPE | {
    "sentence", "otherwise", "remedies", "asks", "decision", "network", "user_agent", "role", "gateway", "worker",
    "cluster", "instance", "upstream_status", "upstream_ms", "response_bytes", "cache", "trace_id", "cut", "limits",
}  # fmt: skip


@pytest.fixture
def token(admin: User) -> str:
    return issue_tokens(admin).access


def get(api: ApiClient, token: str, path: str = "", **query: Any) -> Any:
    response = api.get(f"/api/v1/admin/requests{path}", query, headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200, response.content
    return response.json()


def test_staff_list_requests_newest_first(api: ApiClient, token: str) -> None:
    for number in range(3):
        kept(number * MINUTE, path=f"/{number}")

    answer = get(api, token, limit=2)

    assert [row["path"] for row in answer["requests"]] == ["/0", "/1"]
    assert answer["pagination"].items() >= {"page": 1, "limit": 2, "total": 3, "pages": 2, "more": False}.items()
    for more in ({"before": answer["pagination"]["next"]}, {"page": 2}):
        assert [row["path"] for row in get(api, token, limit=2, **more)["requests"]] == ["/2"]


def test_a_request_has_the_shape_of_the_contract(api: ApiClient, token: str) -> None:
    request = finished(
        InsufficientPermissions(details={"permission": "chain:write"}), claim=Claim("api_key", "a-key", "a-user")
    )
    row_of(request).save()

    (found,) = get(api, token)["requests"]
    assert set(found) == SHAPE
    found = get(api, token, "/request-1")
    assert set(found) == EXPLAINED
    assert found["credential"] == {"kind": "api_key", "id": "a-key"}
    assert (found["reason"], found["error_code"], found["route"]) == ("permission_missing", "LUCID_ERR_2004", None)
    (step,) = found["steps"]
    assert set(step) == {"step", "outcome", "reason", "ms", "details"}
    assert step["details"] == {"permission": "chain:write"}


def test_attempts_are_listed(api: ApiClient, token: str) -> None:
    request = finished(UpstreamUnreachable())
    request.record.cluster = "blockchain_core"
    request.record.passed(Step.BULKHEAD)
    request.record.attempts.append(AttemptRecord("http://one:1", connect_ms=0.5, outcome="instance_unreachable"))
    row_of(request).save()

    assert get(api, token, "/request-1")["attempts"] == [
        {
            "instance": "http://one:1",
            "connect_ms": 0.5,
            "send_ms": None,
            "first_byte_ms": None,
            "outcome": "instance_unreachable",
        }
    ]


def test_one_request_is_explained_as_on_its_page(api: ApiClient, token: str, owner: User) -> None:
    lock_user(owner, reason="stolen laptop", by="manage.py")
    facts = {"facts": {"locked_by": "manage.py", "lock_reason": "stolen laptop"}}
    row = kept(
        reason="account_locked", status=401, user_id=str(owner.pk), request_id="locked", cluster="blockchain_core",
        instance="http://one:1", upstream_status=200, upstream_ms=1.5, cache="miss", trace_id="a" * 32,
        response_bytes=7, role="user",
        details={"steps": [{"step": "lock", "outcome": "refused", "reason": "account_locked", "ms": 0.4}], **facts},
    )  # fmt: skip

    found = get(api, token, "/locked")

    assert found["sentence"].startswith("Refused: the account of owner@example.org is locked. manage.py locked it at ")
    assert found["remedies"][0] == {
        "text": "Unlock the account…", "url": "/admin/accounts/user/",
        "sends": {"action": "unlock", "_selected_action": str(owner.pk), "index": "0"},
    }  # fmt: skip
    assert all(set(each) == {"text", "url", "sends"} for each in found["remedies"])
    lock = next(line for line in found["decision"] if line["outcome"] == "did not pass")
    assert lock == {
        "name": "Lock, revocation, epoch", "outcome": "did not pass", "text": "staff have locked the account",
        "ms": 0.4,
    }  # fmt: skip
    same = ("network", "user_agent", "role", "gateway", "worker", "cluster", "instance", "upstream_status",
            "upstream_ms", "response_bytes", "cache", "trace_id")  # fmt: skip
    assert {name: found[name] for name in same} == {name: getattr(row, name) for name in same}


def test_what_the_caller_may_not_do_names_whom_to_ask(api: ApiClient, token: str, super_admin: User) -> None:
    lock_user(super_admin, reason="left", by="manage.py")
    kept(reason="account_locked", status=401, user_id=str(super_admin.pk), request_id="locked")

    found = get(api, token, "/locked")

    assert found["asks"] == ["Only a super admin may unlock the account: ask one."]


def test_of_several_requests_with_an_id_the_latest_is_shown(api: ApiClient, token: str) -> None:
    kept(MINUTE, request_id="twice", path="/old")
    kept(request_id="twice", path="/new")

    assert get(api, token, "/twice")["path"] == "/new"


def test_filters_must_all_match(api: ApiClient, token: str, owner: User) -> None:
    kept(path="/wanted", status=429, user_id=str(owner.pk), address="192.0.2.7")
    kept(path="/other", status=404, user_id=str(owner.pk))

    for query in ({"user": owner.email}, {"q": "owner"}):
        assert len(get(api, token, **query)["requests"]) == 2
        (row,) = get(api, token, status="429", network="192.0.0.0/16", since="1h", **query)["requests"]
        assert row["path"] == "/wanted"


@pytest.mark.parametrize(
    "query",
    [{"status": "x"}, {"q": "nobody@example.org"}, {"since": "then"}, {"before": "x"}, {"q": ""}, {"limit": "101"}],
    ids=str,
)
def test_a_filter_that_is_not_understood_is_422(api: ApiClient, token: str, query: dict[str, str]) -> None:
    response = api.get("/api/v1/admin/requests", query, headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 422
    (problem,) = response.json()["error"]["details"]["validation_errors"]
    assert problem["field"] == next(iter(query))


def test_a_secret_is_not_repeated(api: ApiClient, token: str) -> None:
    secret = "lk_abcdefghijkl_" + "s" * 43
    response = api.get("/api/v1/admin/requests", {"q": secret}, headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 422
    assert "sss" not in response.content.decode()


def test_a_request_that_is_not_kept_is_404(api: ApiClient, token: str) -> None:
    response = api.send("get", "/admin/requests/nothing", token=token)

    assert error_code(response) == "4001"
    assert response.json()["error"]["details"]["kept_hours"] == 24


@pytest.mark.parametrize("path", ["", "/request-1"])
def test_only_staff_may_read(api: ApiClient, owner: User, path: str) -> None:
    kept()

    assert error_code(api.send("get", f"/admin/requests{path}", token=issue_tokens(owner).access)) == "2004"
    assert error_code(api.send("get", f"/admin/requests{path}")) == "2001"


def test_an_error_shows_staff_where_it_is_explained(api: ApiClient, token: str, owner: User) -> None:
    response = api.send("get", "/nowhere", token=token)
    assert "console" not in response.json()["error"]["details"]  # nobody was identified for an unknown path

    response = api.send("get", "/admin/requests/nothing", token=token)
    link = response.json()["error"]["details"]["console"]
    assert link.endswith(f"/admin/requests/{response['X-Request-ID']}/")

    response = api.send("get", "/admin/requests/nothing", token=issue_tokens(owner).access)
    assert "console" not in response.json()["error"]["details"]


def test_requests_are_filtered_by_outcome(api: ApiClient, token: str) -> None:
    kept(path="/refused", status=403, reason="permission_missing")
    kept(path="/answered", status=403)

    assert [row["path"] for row in get(api, token, outcome="refused")["requests"]] == ["/refused"]
    response = api.get("/api/v1/admin/requests", {"outcome": "lost"}, headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 422

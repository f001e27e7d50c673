"""/admin/blocked-addresses: operators list, set and lift the rules of networks."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from conftest import ApiClient, error_code, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from ratelimit.models import AddressRule
from ratelimit.rules import address_verdict, rules_cache
from ratelimit.ruling import lift_address_rule, set_address_rule
from testing.parallel import in_parallel

PATH = "/admin/blocked-addresses"
RULE = {"network": "192.0.2.0/24", "reason": "scans"}
FIELDS = {
    "rule_id", "network", "kind", "observe_only", "reason", "evidence", "refused", "observed", "created_by",
    "created_at", "expires_at",
}  # fmt: skip


@pytest.fixture
def token(admin: User) -> str:
    """The admin's access token."""
    return issue_tokens(admin).access


def put(network: str, **fields: Any) -> AddressRule:
    return AddressRule.objects.create(**{"network": network, "kind": "deny", "reason": "why"} | fields)


def listed(api: ApiClient, token: str, query: str = "") -> list[str]:
    """Return the networks on a page."""
    response = api.send("get", f"{PATH}{query}", token=token)
    assert response.status_code == 200, response.content
    return [rule["network"] for rule in response.json()["blocked_addresses"]]


def in_an_hour() -> str:
    return (timezone.now() + timedelta(hours=1)).isoformat()


def codes(response: Any) -> dict[str, str]:
    """Return the error code of each refused field."""
    return {problem["field"]: problem["code"] for problem in response.json()["error"]["details"]["validation_errors"]}


# Listing


def test_an_empty_list_has_no_rules(api: ApiClient, token: str) -> None:
    assert api.send("get", PATH, token=token).json() == {
        "blocked_addresses": [], "pagination": {"page": 1, "limit": 20, "total": 0, "pages": 0},
    }  # fmt: skip


def test_a_rule_is_shown_with_its_reason_and_evidence(api: ApiClient, token: str) -> None:
    rule = put("192.0.2.1/32", kind="halved", evidence={"refused": 300, "tier": "public"}, refused=7)

    [shown] = api.send("get", PATH, token=token).json()["blocked_addresses"]

    assert set(shown) == FIELDS
    assert (shown["rule_id"], shown["network"], shown["kind"]) == (str(rule.pk), "192.0.2.1/32", "halved")
    assert (shown["reason"], shown["evidence"]) == ("why", {"refused": 300, "tier": "public"})
    assert (shown["refused"], shown["created_by"], shown["expires_at"]) == (7, "", None)


def test_ended_rules_are_not_shown(api: ApiClient, token: str) -> None:
    put("192.0.2.1/32", expires_at=timezone.now() - timedelta(seconds=1))
    put("192.0.2.2/32", expires_at=timezone.now() + timedelta(hours=1))

    assert listed(api, token) == ["192.0.2.2/32"]


FILTERS: dict[str, set[str]] = {
    "?kind=deny": {"192.0.2.1/32", "2001:db8::/64"},
    "?kind=blocked": {"192.0.2.2/32"},
    "?kind=allow": set(),
    "?network=192.0.2.2": {"192.0.2.2/32"},
    "?network=2001:DB8:0::/64": {"2001:db8::/64"},
    "?network=192.0.2.0/24": set(),
    "?network=192.0.2.2&kind=deny": set(),
}


def test_rules_are_filtered(api: ApiClient, token: str) -> None:
    put("192.0.2.1/32")
    put("192.0.2.2/32", kind="blocked")
    put("2001:db8::/64")

    assert {query: set(listed(api, token, query)) for query in FILTERS} == FILTERS


def test_pages_contain_every_rule_once(api: ApiClient, token: str) -> None:
    now = timezone.now()
    for number in range(5):
        put(f"192.0.2.{number}/32", created_at=now - timedelta(minutes=number))
    pages = [listed(api, token, f"?limit=2&page={page}") for page in (1, 2, 3, 4)]

    assert pages == [["192.0.2.0/32", "192.0.2.1/32"], ["192.0.2.2/32", "192.0.2.3/32"], ["192.0.2.4/32"], []]
    assert api.send("get", f"{PATH}?limit=2&page=3", token=token).json()["pagination"] == {
        "page": 3, "limit": 2, "total": 5, "pages": 3,
    }  # fmt: skip


ORDERS = {
    "created_at": "cba", "-created_at": "abc", "network": "bac", "-network": "cab", "expires_at": "acb",
    "-expires_at": "bca",
}  # fmt: skip


def test_rules_are_sorted(api: ApiClient, token: str) -> None:
    now = timezone.now()
    names = {"192.0.2.5/32": "a", "192.0.2.1/32": "b", "192.0.2.9/32": "c"}
    for number, (network, hours) in enumerate(zip(names, (1, 3, 2), strict=True)):
        created, ends = now - timedelta(minutes=number), now + timedelta(hours=hours)
        put(network, created_at=created, expires_at=ends)

    found = {sort: [names[network] for network in listed(api, token, f"?sort={sort}")] for sort in ORDERS}
    assert {sort: "".join(order) for sort, order in found.items()} == ORDERS


BAD_QUERIES = {
    "?page=0": "1004", "?limit=101": "1004", "?page=x": "1003", "?sort=reason": "1003", "?kind=evil": "1003",
    "?network=nonsense": "1003", "?page=0&kind=evil": "1001",
}  # fmt: skip


def test_a_bad_query_is_422(api: ApiClient, token: str) -> None:
    responses = {query: api.send("get", f"{PATH}{query}", token=token) for query in BAD_QUERIES}

    assert {response.status_code for response in responses.values()} == {422}
    assert {query: error_code(response) for query, response in responses.items()} == BAD_QUERIES


# Setting


def test_a_network_is_denied_until_an_operator_lifts_the_rule(api: ApiClient, token: str, admin: User) -> None:
    response = api.send("post", PATH, RULE, token=token)

    assert response.status_code == 201
    body = response.json()
    assert set(body) == FIELDS
    assert (body["network"], body["kind"], body["reason"], body["expires_at"]) == (
        "192.0.2.0/24", "deny", "scans", None,
    )  # fmt: skip
    assert (body["created_by"], body["refused"], body["evidence"]) == (str(admin.pk), 0, {})
    assert AddressRule.objects.get().pk.hex == body["rule_id"].replace("-", "")


def test_a_rule_applies_immediately_in_the_process_that_set_it(api: ApiClient, token: str) -> None:
    api.send("post", PATH, RULE, token=token)

    verdict = address_verdict("192.0.2.77")
    assert verdict is not None
    assert verdict.kind == "deny"


def test_each_kind_of_rule_can_have_an_end(api: ApiClient, token: str) -> None:
    ends = in_an_hour()
    for kind in ("allow", "deny", "halved", "blocked"):
        response = api.send("post", PATH, RULE | {"kind": kind, "expires_at": ends}, token=token)

        assert (response.status_code, response.json()["kind"]) == (201, kind)
        told = datetime.fromisoformat(response.json()["expires_at"])
        assert abs(told - datetime.fromisoformat(ends)) < timedelta(seconds=1)


SPELLINGS = {
    "192.0.2.77": "192.0.2.77/32", "192.0.2.77/24": "192.0.2.0/24", "2001:DB8::1/64": "2001:db8::/64",
    "::ffff:192.0.2.1": "192.0.2.1/32",
}  # fmt: skip


def test_a_network_is_stored_in_its_canonical_form(api: ApiClient, token: str) -> None:
    answers = {text: api.send("post", PATH, RULE | {"network": text}, token=token).json() for text in SPELLINGS}

    assert {text: answer["network"] for text, answer in answers.items()} == SPELLINGS


def test_every_spelling_of_a_network_means_the_same_rule(db: None) -> None:
    for network in ("192.0.2.77/24", "192.0.2.0/24"):
        set_address_rule(network=network, kind="deny", reason="why", by="manage.py")
    assert AddressRule.objects.get().network == "192.0.2.0/24"

    lift_address_rule("192.0.2.1/24", by="manage.py")
    assert not AddressRule.objects.exists()


def test_a_new_rule_replaces_the_old_one_of_the_network(api: ApiClient, token: str, admin: User) -> None:
    put("192.0.2.0/24", kind="halved", evidence={"refused": 300}, expires_at=timezone.now() + timedelta(hours=1))

    response = api.send("post", PATH, RULE | {"network": "192.0.2.9/24", "kind": "allow"}, token=token)

    assert response.status_code == 201
    row = AddressRule.objects.get()
    assert (row.kind, row.reason, row.evidence, row.expires_at) == ("allow", "scans", {}, None)
    assert row.created_by == str(admin.pk)


def test_operators_who_set_the_same_network_in_parallel_all_succeed(transactional_db: None) -> None:
    token = issue_tokens(make_user("admin", Role.ADMIN)).access

    responses = in_parallel(
        4, lambda number: ApiClient(HTTP_HOST="testserver").send("post", PATH, RULE | {"reason": str(number)}, token)
    )

    assert [response.status_code for response in responses] == [201] * 4
    assert AddressRule.objects.count() == 1


BAD_RULES: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    ({"network": ...}, "1002", {"network": "required"}),
    ({"reason": ...}, "1002", {"reason": "required"}),
    ({"reason": ""}, "1002", {"reason": "blank"}),
    ({"network": None}, "1002", {"network": "null"}),
    ({"network": "nonsense"}, "1003", {"network": "invalid"}),
    ({"network": "192.0.2.0/33"}, "1003", {"network": "invalid"}),
    ({"network": ["192.0.2.1"]}, "1003", {"network": "invalid"}),
    ({"kind": "evil"}, "1003", {"kind": "invalid_choice"}),
    ({"reason": "x" * 201}, "1004", {"reason": "max_length"}),
    ({"expires_at": "soon"}, "1008", {"expires_at": "invalid_date"}),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "1008", {"expires_at": "invalid_date"}),
    ({"network": ..., "kind": "evil"}, "1001", {"network": "required", "kind": "invalid_choice"}),
]


def test_a_bad_rule_is_422(api: ApiClient, token: str) -> None:
    for changes, code, found in BAD_RULES:
        data = {name: value for name, value in (RULE | changes).items() if value is not ...}
        response = api.send("post", PATH, data, token=token)

        assert (response.status_code, error_code(response), codes(response)) == (422, code, found), changes
    assert not AddressRule.objects.exists()


# Lifting


def test_a_rule_is_lifted_by_its_network(api: ApiClient, token: str) -> None:
    put("192.0.2.0/24")
    put("192.0.2.1/32")
    rules_cache.load()

    response = api.send("delete", f"{PATH}?network=192.0.2.1", token=token)

    assert (response.status_code, response.content) == (204, b"")
    assert listed(api, token) == ["192.0.2.0/24"]
    verdict = address_verdict("192.0.2.1")
    assert verdict is not None
    assert verdict.network == "192.0.2.0/24"


def test_a_rule_that_does_not_exist_cannot_be_lifted(api: ApiClient, token: str) -> None:
    put("192.0.2.0/24")
    responses = [
        api.send("delete", f"{PATH}{query}", token=token) for query in ("?network=192.0.2.9", "", "?network=x")
    ]

    assert [(response.status_code, error_code(response)) for response in responses] == [
        (404, "4001"), (422, "1002"), (422, "1003"),
    ]  # fmt: skip
    assert AddressRule.objects.count() == 1


# Access


def each_method(api: ApiClient, token: str | None) -> list[Any]:
    return [
        api.send("get", PATH, token=token),
        api.send("post", PATH, RULE, token=token),
        api.send("delete", f"{PATH}?network=192.0.2.0/24", token=token),
    ]


@pytest.mark.parametrize("role", ["user", "node_operator"])
def test_other_roles_are_refused(api: ApiClient, db: None, role: str) -> None:
    put("192.0.2.0/24")
    token = issue_tokens(make_user("somebody", Role(role))).access

    assert [error_code(response) for response in each_method(api, token)] == ["2004"] * 3
    assert AddressRule.objects.get().reason == "why"


@pytest.mark.parametrize("role", ["admin", "super_admin"])
def test_staff_are_allowed_every_method(api: ApiClient, db: None, role: str) -> None:
    token = issue_tokens(make_user("somebody", Role(role))).access

    assert [response.status_code for response in each_method(api, token)] == [200, 201, 204]


def test_anonymous_requests_are_refused(api: ApiClient, db: None) -> None:
    assert [error_code(response) for response in each_method(api, None)] == ["2001"] * 3


def test_another_method_is_405(api: ApiClient, token: str) -> None:
    response = api.send("put", PATH, RULE, token=token)

    assert (response.status_code, error_code(response)) == (405, "4003")
    assert set(response["Allow"].split(", ")) >= {"GET", "POST", "DELETE"}


# Audit log


def test_operator_changes_are_audited(api: ApiClient, token: str, admin: User) -> None:
    ends = in_an_hour()
    api.send("post", PATH, RULE | {"kind": "blocked", "expires_at": ends}, token=token)
    api.send("delete", f"{PATH}?network=192.0.2.0/24", token=token)
    ruled, lifted = AuditEvent.objects.filter(type__startswith="address.").order_by("created_at")

    assert (ruled.type, ruled.actor, ruled.subject) == ("address.ruled", str(admin.pk), "192.0.2.0/24")
    assert (ruled.details["rule"], ruled.details["reason"]) == ("blocked", "scans")
    assert datetime.fromisoformat(ruled.details["until"]) == datetime.fromisoformat(ends)
    assert (lifted.type, lifted.actor, lifted.subject) == ("address.lifted", str(admin.pk), "192.0.2.0/24")
    assert ruled.details["changes"]["kind"] == [None, "blocked"]
    assert lifted.details.pop("changes") == ruled_back(ruled.details["changes"])
    assert lifted.details == {"rule": "blocked", "reason": "scans"}


def ruled_back(changes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the changes that undo these."""
    return {name: values[::-1] for name, values in changes.items()}


def test_refused_requests_leave_no_event(api: ApiClient, token: str) -> None:
    api.send("post", PATH, RULE | {"kind": "evil"}, token=token)
    api.send("delete", f"{PATH}?network=192.0.2.9", token=token)

    assert not AuditEvent.objects.filter(type__startswith="address.").exists()


def test_a_rule_that_would_lock_out_its_author_is_refused(api: ApiClient, token: str) -> None:
    refused = api.send("post", PATH, {"network": "0.0.0.0/0", "kind": "deny", "reason": "t"}, token=token)
    assert (refused.status_code, error_code(refused)) == (409, "4003")
    details = refused.json()["error"]["details"]
    assert details.pop("console").endswith(f"/admin/requests/{refused['X-Request-ID']}/")
    assert details == {"address": "127.0.0.1"}
    assert api.send("get", PATH, token=token).status_code == 200

    for harmless in ({"network": "0.0.0.0/0", "kind": "halved"}, {"network": "192.0.2.0/24", "kind": "deny"}):
        assert api.send("post", PATH, harmless | {"reason": "t"}, token=token).status_code == 201

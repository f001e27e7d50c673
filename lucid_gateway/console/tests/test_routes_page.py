"""The page "Routes": the route table in force, and the gateway's own endpoints as they really answer."""

import re
from typing import Any

from django.test import Client
from pytest_django.fixtures import Settings

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from conftest import ApiClient, make_user
from lucid_gateway.console.routes.endpoints import ANY_TOKEN, ANYONE, OWN_OR_ALL, TOKEN_ONLY, Endpoint, own_endpoints
from lucid_gateway.console.routes.page import route_rows
from lucid_gateway.policy.roles import PERMISSIONS, Role
from lucid_gateway.policy.routes import PARAMETER, ROUTES
from ratelimit import rules
from ratelimit.models import LimitRule
from ratelimit.tier_table import tier_rows

ROUTES_PAGE = "/admin/routes/"
NAMED = r"{\1}"


def shown(page: Client, query: str = "") -> Any:
    """Return the context of the page."""
    response = page.get(f"{ROUTES_PAGE}{query}")
    assert response.status_code == 200
    return response.context


def paths(page: Client, query: str) -> set[str]:
    return {row.path for row in shown(page, query)["routes"]}


def text(page: Client, query: str = "") -> str:
    return " ".join(page.get(f"{ROUTES_PAGE}{query}").content.decode().split())


def test_every_route_is_shown_with_its_rules(page: Client) -> None:
    assert [row.route for row in shown(page)["routes"]] == list(ROUTES)

    found = text(page, "?q=chain/blocks/")
    for words in (
        "/api/v1/chain/blocks/{rest*}", "GET HEAD", "blockchain:read", "blockchain_query", "500 a minute, burst 1,000",
        "timeouts 2 / 30 / 60 s", "body up to 100 MiB", "3 attempts", "cached by Cache-Control, for all callers",
        "<code>/api/v1/blocks/{rest*}</code>",
    ):  # fmt: skip
        assert words in found


def test_a_path_that_is_not_rewritten_is_shown_once(page: Client) -> None:
    assert text(page, "?q=chain/status").count("/api/v1/chain/status") == 1


SEARCHES = {
    "?q=CHAIN/height": {"/api/v1/chain/height"},
    "?q=chunk_upload": {"/api/v1/sessions/{session_id}/chunks"},
    "?q=rdp:write": {"/api/v1/rdp", "/api/v1/rdp/{rest*}"},
    "?q=idempotency": {"/api/v1/chain/transactions", "/api/v1/wallets", "/api/v1/wallets/{rest*}"},
    "?cluster=session_management": {"/api/v1/sessions/{session_id}/chunks"},
    "?cluster=tron_payment&q=wallet:read": {"/api/v1/wallets", "/api/v1/wallets/{rest*}"},
    "?cluster=nobody": set(),
    "?q=%3Cscript%3E": set(),
}


def test_routes_are_searched_and_filtered(page: Client) -> None:
    assert {query: paths(page, query) for query in SEARCHES} == SEARCHES
    assert "<script>alert" not in text(page, "?q=<script>alert(1)</script>&cluster=<script>alert(1)</script>")


def test_the_numbers_of_a_tier_are_those_in_force(page: Client) -> None:
    assert 'authenticated <span class="faint">1,000 a minute, burst 2,000</span>' in text(page)
    LimitRule.objects.create(tier="authenticated", limit=77, burst=5, reason="why", observe_only=True)
    rules.rules_cache.load()

    found = text(page, "?q=chain/status")
    assert "77 a minute, burst 5" in found
    assert ">rule</span>" in found
    assert ">shadow</span>" in found


def test_without_limits_the_page_says_so(page: Client, settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    assert "off: RATE_LIMIT_ENABLED is false" in text(page)


def test_routes_of_a_cluster_without_an_address_are_marked(page: Client) -> None:
    active = {row.path: row.active for row in shown(page)["routes"]}

    assert (active["/api/v1/chain/info"], active["/api/v1/storage"]) == (True, False)
    assert "not served: the cluster has no address" in text(page, "?q=storage:read")


def test_a_route_links_to_its_preview_and_its_requests(page: Client) -> None:
    row = next(row for row in shown(page)["routes"] if row.path == "/api/v1/chain/blocks/{rest*}")

    assert page.get(row.preview_url).status_code == 200
    assert "path=%2Fapi%2Fv1%2Fchain%2Fblocks%2F1" in row.preview_url
    if row.requests_url:
        assert "route=api%2Fv1%2Fchain%2Fblocks%2F%3Cpath%3Arest%3E" in row.requests_url


# The gateway's own endpoints, compared with what they answer


def endpoint(path: str, method: str) -> Endpoint:
    return next(one for one in own_endpoints() if one.path == path and method in one.methods)


def ask(api: ApiClient, one: Endpoint, method: str, **credential: Any) -> Any:
    path = re.sub(r"\{\w+\}", "00000000-0000-4000-8000-000000000000", one.path)
    return api.generic(method, path, "{}", content_type="application/json", headers=credential)


def of_the_api() -> list[tuple[Endpoint, str]]:
    """Return each endpoint of the API with each of its methods."""
    return [(one, method) for one in own_endpoints() if one.path.startswith("/api/") for method in one.methods]


def code(response: Any) -> str:
    return str(response.json()["error"]["code"]) if response.status_code >= 400 else ""


def test_whoever_needs_no_credential_is_called_anyone(api: ApiClient, db: None) -> None:
    for one, method in of_the_api():
        refused = code(ask(api, one, method)) == "LUCID_ERR_2001"
        assert refused == (one.access != ANYONE), (method, one)


def test_a_caller_without_the_permission_is_refused_by_that_permission(api: ApiClient, owner: User) -> None:
    token = {"Authorization": f"Bearer {issue_tokens(owner).access}"}
    checked = 0
    for one, method in of_the_api():
        permission = one.access.split(",")[0]
        if ":" not in permission or one.access == OWN_OR_ALL or permission in PERMISSIONS[Role.USER]:
            continue
        answer = ask(api, one, method, **token)
        assert answer.json()["error"]["details"] == {"permission": permission}, (method, one)
        checked += 1
    assert checked > 10


def test_endpoints_for_access_tokens_only_refuse_api_keys(api: ApiClient, db: None) -> None:
    everything = sorted(PERMISSIONS[Role.SUPER_ADMIN])
    key = {"X-API-Key": create_api_key(make_user("root", Role.SUPER_ADMIN), name="all", permissions=everything)[1]}
    for one, method in of_the_api():
        if one.access == ANY_TOKEN or TOKEN_ONLY in one.access:
            assert code(ask(api, one, method, **key)) == "LUCID_ERR_2004", (method, one)


def test_endpoints_have_the_tier_that_counts_them() -> None:
    tiers = {
        ("/api/v1/auth/login", "POST"): "login_attempt", ("/api/v1/meta/info", "GET"): "public",
        ("/api/v1/meta/health/live", "GET"): "", ("/api/v1/users/me", "GET"): "authenticated",
        ("/api/v1/admin/audit", "GET"): "admin", ("/login", "GET"): "",
    }  # fmt: skip
    assert {key: endpoint(*key).tier for key in tiers} == tiers


def test_no_forwarded_route_and_no_operator_page_is_an_endpoint_of_the_gateway() -> None:
    plain = [(f"/api/v1/{PARAMETER.sub(NAMED, route.path)}", route.methods) for route in ROUTES]
    forwarded = {(path, method) for path, methods in plain for method in methods}

    assert not forwarded & {(one.path, method) for one in own_endpoints() for method in one.methods}
    assert not [one for one in own_endpoints() if one.path.startswith("/admin")]
    assert endpoint("/api/v1/sessions/{session_id}/chunks", "GET").methods == ("GET",)


def test_endpoints_are_searched(page: Client) -> None:
    found = {row.endpoint.path for row in shown(page, "?q=system:manage")["endpoints"]}
    assert found == {"/api/v1/admin/users/{user_id}/role"}
    assert shown(page, "?cluster=tron_payment")["endpoints"] == []


def test_the_tables_need_no_query(db: None, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert route_rows(ROUTES, {row.name: row for row in tier_rows()})
        assert own_endpoints()

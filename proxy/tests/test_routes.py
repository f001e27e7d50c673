"""Each row of the route table, through a real gateway to recording clusters."""

import pytest
from django.urls import URLPattern, get_resolver
from rest_framework.throttling import BaseThrottle

from accounts.tokens.issuing import TokenPair
from conftest import ApiClient, error_code
from lucid_gateway.policy.clusters import CLUSTERS
from lucid_gateway.policy.roles import PERMISSIONS, Role
from lucid_gateway.policy.routes import ROUTES, Route, by_path, printable
from proxy.forwarding.resolving import active_routes
from proxy.tests.conftest import Stage
from ratelimit.throttling import throttle_for
from testing.http.client import Ask
from testing.http.cluster import RawCluster

pytestmark = pytest.mark.planes

SAME = "the same path"
FORWARDED = [
    ("GET", "/chain/info", "chain", SAME),
    ("GET", "/blockchain-info", "chain", "/chain/info"),
    ("GET", "/chain/status", "chain", SAME),
    ("GET", "/chain/height", "chain", SAME),
    ("GET", "/chain/network", "chain", SAME),
    *[
        (method, f"/chain/{group}{rest}", "chain", f"/{group}{rest}")
        for group in ("blocks", "transactions", "anchoring", "consensus", "merkle")
        for method in ("GET", "HEAD")
        for rest in ("", "/42", "/42/deeper/still")
    ],
    ("GET", "/wallets", "wallets", SAME),
    ("POST", "/wallets", "wallets", SAME),
    ("GET", "/wallets/w-1", "wallets", SAME),
    ("POST", "/wallets/w-1/transactions", "wallets", SAME),
    *[(method, "/wallets/w-1", "wallets", SAME) for method in ("HEAD", "PUT", "PATCH", "DELETE")],
    *[
        (method, f"/{group}{rest}", group, SAME)
        for group, methods in (("rdp", "GET POST DELETE"), ("nodes", "GET HEAD"), ("storage", "GET POST DELETE"))
        for method in methods.split()
        for rest in ("", "/1/2")
    ],
]


@pytest.mark.parametrize(("method", "path", "cluster", "there"), FORWARDED)
def test_a_route_leads_to_its_cluster(
    *, ask: Ask, stage: Stage, method: str, path: str, cluster: str, there: str
) -> None:
    assert ask(method, path).status == 200
    arrived = {name: found.requests for name, found in stage.clusters.items() if found.requests}
    assert list(arrived) == [cluster]
    (request,) = arrived[cluster]
    assert request.start == f"{method} /api/v1{path if there is SAME else there} HTTP/1.1"


def test_writing_to_the_chain_requires_its_permission(ask: Ask, stage: Stage) -> None:
    answer = ask("POST", "/chain/transactions", body=b"{}")
    assert (answer.status, answer.code) == (403, "2004")
    assert stage.clusters["chain"].requests == []


@pytest.mark.parametrize("email", ["operator@lucid.test", "admin@lucid.test"])
def test_an_operator_may_write_to_the_chain(ask: Ask, stage: Stage, email: str) -> None:
    assert ask("POST", "/chain/transactions", token=stage.gateway.issue_token(email), body=b"{}").status == 200
    request = stage.clusters["chain"].request
    assert (request.start, request.body) == ("POST /api/v1/transactions HTTP/1.1", b"{}")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/wallets/a%20b", "/wallets/a%20b"),
        ("/wallets/%61%62c", "/wallets/abc"),
        ("/wallets/%7Eme", "/wallets/~me"),
        ("/wallets/a%2db%5Fc%2ed", "/wallets/a-b_c.d"),
        ("/wallets/caf%c3%a9", "/wallets/caf%C3%A9"),
        ("/wallets/100%25", "/wallets/100%25"),
        ("/wallets/a%3Fb%23c", "/wallets/a%3Fb%23c"),
        ("/wallets/a+b,c;d=e:f@g!$&'()*", "/wallets/a+b,c;d=e:f@g!$&'()*"),
        ("/wallets/{rest}/%7Bx%7D", "/wallets/%7Brest%7D/%7Bx%7D"),
        ("/wallets/%22%3C%3E", "/wallets/%22%3C%3E"),
        ("/%77allets/x", "/wallets/x"),
    ],
)
def test_a_path_arrives_in_its_canonical_form(ask: Ask, wallets: RawCluster, path: str, there: str) -> None:
    assert ask("GET", path).status == 200
    assert wallets.request.target == f"/api/v1{there}"


@pytest.mark.parametrize(
    "query",
    ["a=b", "a=b&a=c&&", "a=%zz&b=%", "%", "a=%2F%2e%2e%2F", "a=/../b", "a=b?c?d", "=", "a+b=c+d", "a=[1]{2}|\\^`\"<>",
     "x=%00", "url=http://evil.test/", "%E4%BD"],
)  # fmt: skip
def test_a_query_arrives_byte_for_byte(ask: Ask, wallets: RawCluster, query: str) -> None:
    assert ask("GET", f"/wallets/w-1?{query}").status == 200
    assert wallets.request.target == f"/api/v1/wallets/w-1?{query}"


def test_a_query_contains_only_bytes_that_a_request_line_may_have() -> None:
    assert printable("a=b\r\nX: y \xe9") == "a=b%0D%0AX:%20y%20%E9"
    assert printable("a=%zz&%") == "a=%zz&%"


@pytest.mark.parametrize("path", ["/wallets/", "/wallets/w-1/", "/chain/info/", "/chain/blocks/"])
def test_a_trailing_slash_leads_to_the_same_route(ask: Ask, stage: Stage, path: str) -> None:
    assert ask("GET", path).status == 200
    (request,) = [request for cluster in stage.clusters.values() for request in cluster.requests]
    assert not request.target.endswith("/")


def test_a_trailing_slash_loses_no_body(ask: Ask, wallets: RawCluster) -> None:
    assert ask("POST", "/wallets/", body=b"12345").status == 200
    assert wallets.request.body == b"12345"


@pytest.mark.parametrize(
    "path",
    ["/Wallets", "/WALLETS/w-1", "/chain/INFO", "/Chain/blocks", "/chain", "/chain/unknown", "/walletsx", "/wallet",
     "/chain/info/more", "/blockchain-info/more", "/sessions/../wallets", "//wallets"],
)  # fmt: skip
def test_a_path_without_a_route_is_not_found(ask: Ask, stage: Stage, path: str) -> None:
    assert ask("GET", path).status in (400, 404)
    assert not [request for cluster in stage.clusters.values() for request in cluster.requests]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/chain/info", "GET, HEAD"),
        ("DELETE", "/chain/blocks/1", "GET, HEAD"),
        ("PUT", "/chain/transactions", "GET, HEAD, POST"),
        ("POST", "/chain/transactions/1", "GET, HEAD"),
        ("OPTIONS", "/wallets", "DELETE, GET, HEAD, PATCH, POST, PUT"),
        ("TRACE", "/wallets", "DELETE, GET, HEAD, PATCH, POST, PUT"),
        ("PROPFIND", "/wallets/w-1", "DELETE, GET, HEAD, PATCH, POST, PUT"),
    ],
)
def test_a_method_without_a_route_is_refused(ask: Ask, stage: Stage, method: str, path: str, allowed: str) -> None:
    answer = ask(method, path)
    assert (answer.status, answer.code) == (405, "4003")
    assert sorted(answer.all("allow")[0].split(", ")) == allowed.split(", ")
    assert not [request for cluster in stage.clusters.values() for request in cluster.requests]


@pytest.mark.parametrize("path", ["/wallets", "/chain/info", "/chain/blocks/1", "/rdp", "/nodes/1", "/storage"])
def test_each_route_requires_a_token(ask: Ask, stage: Stage, path: str) -> None:
    answer = ask("GET", path, token="")
    assert (answer.status, answer.code) == (401, "2001")
    assert answer.all("www-authenticate") == ["Bearer"]
    assert not [request for cluster in stage.clusters.values() for request in cluster.requests]


@pytest.mark.parametrize("path", ["/rdp", "/nodes/1", "/storage/x"])
def test_routes_of_an_optional_cluster_need_its_address(api: ApiClient, tokens: TokenPair, path: str) -> None:
    assert error_code(api.send("get", path, token=tokens.access)) == "4001"


# The table itself.


def test_only_routes_of_optional_clusters_may_be_missing() -> None:
    assert {route.cluster for route in ROUTES} - {route.cluster for route in active_routes()} == {
        name for name, cluster in CLUSTERS.items() if not cluster.required
    } - {"admin_interface"}


def test_no_two_routes_share_a_method_and_path() -> None:
    pairs = [(route.path, method) for route in ROUTES for method in route.methods]
    assert len(pairs) == len(set(pairs))


def test_the_routes_of_a_path_share_a_tier_with_a_throttle() -> None:
    for path, methods in by_path(ROUTES).items():
        tiers = {route.tier for route in methods.values()}
        assert len(tiers) == 1, path
        assert issubclass(throttle_for(tiers.pop()), BaseThrottle)


def test_each_route_requires_a_permission_that_super_admins_have() -> None:
    assert {route.permission for route in ROUTES} <= PERMISSIONS[Role.SUPER_ADMIN]


def test_no_wallet_is_reached_through_the_blockchain_cluster() -> None:
    assert {route.cluster for route in ROUTES if "wallet" in route.path + route.upstream} == {"tron_payment"}


def test_a_parameter_stays_within_its_segments() -> None:
    route = Route("x/{rest*}", ("GET",), "some_cluster", "/base/{rest*}", "user:read")
    assert route.target({"rest": "a b?c#d\r\n{e}%2F"}, "") == "/base/a%20b%3Fc%23d%0D%0A%7Be%7D%252F"
    assert route.target({"rest": "a"}, "q=%") == "/base/a?q=%"


def test_a_forwarded_path_is_resolved_before_any_pattern_of_another_app_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, resolve_pattern = [], URLPattern.resolve
    monkeypatch.setattr(URLPattern, "resolve", lambda self, path: tried.append(self) or resolve_pattern(self, path))

    assert get_resolver().resolve("/api/v1/chain/blocks/latest").route.startswith("api/v1/chain/blocks")

    assert len(tried) <= 1  # the pattern of the root

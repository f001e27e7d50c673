"""The fields that are forwarded in each direction (RFC 9110, section 7.6), and those that only the gateway may set."""

from dataclasses import dataclass

import pytest
from django.http import HttpRequest, parse_cookie
from hypothesis import given
from hypothesis import strategies as st

from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.headers import HOP_BY_HOP
from proxy.clusters import Instance
from proxy.connection.headers import request_headers, response_headers, sets_own_cookie
from proxy.connection.trace import TRACEPARENT
from proxy.tests.conftest import Stage
from testing.http.client import Ask
from testing.http.cluster import RawCluster, saying

pytestmark = pytest.mark.planes

HOPPING = [
    "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "Proxy-Authorization: Basic x", "Proxy-Connection: close",
    "TE: trailers", "Trailer: X-T", "Upgrade: h2c",
]  # fmt: skip
FORGED = [
    "X-HTTP-Method-Override: DELETE",
    "X-Original-URL: /admin",
    "X-User-Id: root", "X-User-Role: super_admin", "X-User-Permissions: system:manage", "X-User-Email: root@lucid.test",
    "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test", "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil", "X-Forwarded-User: root", "Forwarded: for=192.0.2.1", "X-Real-IP: 192.0.2.1",
    "X-Request-ID: forged-request-id", "Via: 1.1 evil", "X-Gateway-Signature: t=1,v1=00",
    "X-Forwarded: for=192.0.2.1", "Remote-User: root", "X-Remote-User: root", "X-Auth-User: root",
    "X-Auth-Request-Email: root@lucid.test", "X-Client-IP: 192.0.2.1", "True-Client-IP: 192.0.2.1",
    "X-Host: evil.test", "X-Original-Host: evil.test", "Client-IP: 192.0.2.1", "CF-Connecting-IP: 192.0.2.1",
    "X-Cluster-Client-IP: 192.0.2.1", "Fastly-Client-IP: 192.0.2.1", "X-Original-Forwarded-For: 192.0.2.1",
]  # fmt: skip
UNDERSCORED = [
    "X_User_Id: root", "X_User-Role: super_admin", "X_Forwarded_For: 192.0.2.1", "X_Request_ID: forged-id-1",
    "Remote_User: root", "X_Remote_User: root", "X-Auth_User: root", "X_Client_IP: 192.0.2.1", "X_Host: evil.test",
]  # fmt: skip
# Browsers send each of these as a cookie that Django takes for a cookie of the operator pages.
OWN_COOKIES = [
    "sessionid=theirs; Path=/admin", "csrftoken=theirs", "messages=theirs", "sessionid", " sessionid =theirs",
    "\tsessionid=theirs", "=sessionid=theirs", "= sessionid=theirs", " = =sessionid=theirs", "sessionid=a=b;HttpOnly",
    "\xc2\xa0sessionid=theirs", "sessionid\xe2\x80\x83=theirs", "csrftoken=; Max-Age=0; Path=/admin",
]  # fmt: skip
OWN = {
    "host", "x-request-id", "x-user-id", "x-user-role", "x-user-permissions", "x-forwarded-for", "x-forwarded-proto",
    "x-forwarded-host", "via", "traceparent",
}  # fmt: skip


def answer_with(*fields: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *fields, "Content-Length: 2", "", "ok"]).encode("latin-1")


# To the cluster.


def test_a_cluster_gets_the_identity_and_origin_of_the_request(ask: Ask, stage: Stage, wallets: RawCluster) -> None:
    answer = ask("GET", "/wallets")
    got = {name: value for name, value in wallets.request.fields if name in OWN}
    assert len(wallets.request.fields) == len(OWN)
    assert got.pop("x-user-id").count("-") == 4
    assert got.pop("traceparent").count("-") == 3
    assert got == {
        "host": f"127.0.0.1:{wallets.port}",
        "x-request-id": answer.all("X-Request-ID")[0],
        "x-user-role": "user",
        "x-user-permissions": "blockchain:read,node:read,rdp:read,rdp:write,session:create,session:delete,"
        "session:read,session:update,storage:read,storage:write,user:read,user:update,wallet:read,wallet:write",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": f"127.0.0.1:{stage.gateway.port}",
        "via": "1.1 lucid-api-gateway",
    }


def test_the_clients_credentials_are_not_forwarded(ask: Ask, stage: Stage, wallets: RawCluster) -> None:
    ask("GET", "/wallets")
    key = stage.gateway.manage("create_api_key", "--email", "demo@lucid.test", "--name", "headers").strip()
    assert ask("GET", "/wallets", f"X-API-Key: {key}", token="").status == 200
    assert len(wallets.requests) == 2
    assert not any(request.all("authorization") + request.all("x-api-key") for request in wallets.requests)


@pytest.mark.parametrize("forged", [*FORGED, *UNDERSCORED])
def test_a_client_cannot_set_the_gateways_own_fields(ask: Ask, wallets: RawCluster, forged: str) -> None:
    name, _, value = forged.partition(": ")
    assert ask("GET", "/wallets", forged, forged.lower()).status == 200
    assert value not in wallets.request.all(name)
    assert {field.replace("_", "-").lower() for field, _ in wallets.request.fields} == OWN


def test_a_client_cannot_set_the_proxy_of_a_cgi_cluster(ask: Ask, wallets: RawCluster) -> None:
    """https://httpoxy.org: a field Proxy becomes the variable HTTP_PROXY."""
    ask("GET", "/wallets", "Proxy: http://evil.test")
    assert wallets.request.all("proxy") == []


@pytest.mark.parametrize("field", HOPPING)
def test_hop_by_hop_fields_end_at_the_gateway(ask: Ask, wallets: RawCluster, field: str) -> None:
    assert ask("GET", "/wallets", field).status == 200
    assert {name for name, _ in wallets.request.fields} == OWN


def test_fields_named_in_connection_end_at_the_gateway(ask: Ask, wallets: RawCluster) -> None:
    ask("GET", "/wallets", "Connection: keep-alive, X-Hop", "Connection: x-other", "X-Hop: 1", "X-Other: 2", "X-End: 3")
    assert wallets.request.all("connection") == wallets.request.all("x-hop") == wallets.request.all("x-other") == []
    assert wallets.request.all("x-end") == ["3"]


@pytest.mark.parametrize("name", sorted(OWN))
def test_connection_never_removes_the_gateways_fields(ask: Ask, wallets: RawCluster, name: str) -> None:
    assert ask("GET", "/wallets", f"Connection: {name}, {name.title()}, close").status == 200
    assert {field for field, _ in wallets.request.fields} == OWN


def test_connection_never_removes_the_framing(ask: Ask, wallets: RawCluster) -> None:
    ask("POST", "/wallets", "Connection: content-length, transfer-encoding", body=b"12345")
    assert wallets.request.framing() == [("content-length", "5")]


def test_other_fields_are_forwarded_unchanged(ask: Ask, wallets: RawCluster) -> None:
    fields = {
        "accept": "application/json;q=0.9, */*", "accept-encoding": "br", "content-type": "text/plain; charset=utf-8",
        "cookie": "a=b; c=d", "if-none-match": '"x", W/"y"', "range": "bytes=0-1", "idempotency-key": "k-1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "user-agent": "me/1 (\xe9\xff)",
        "x-empty": "", "origin": "https://app.example.org",
    }  # fmt: skip
    ask("POST", "/wallets", *(f"{name}: {value}" for name, value in fields.items()), body=b"x")
    for name, value in fields.items():
        assert wallets.request.all(name) == [value]


def test_a_line_break_in_a_field_is_refused(ask: Ask, wallets: RawCluster) -> None:
    for value in ("a\nX-User-Id: root", "a\rb", "a\x00b", "a\r\n b"):
        assert ask("GET", "/wallets", f"X-Field: {value}").status == 400
    assert wallets.requests == []


# Back to the client.


@pytest.mark.parametrize("field", [*HOPPING, "Connection: X-Hop"])
def test_hop_by_hop_fields_of_an_answer_end_at_the_gateway(ask: Ask, wallets: RawCluster, field: str) -> None:
    wallets.behaviour = saying(answer_with(field, "X-Hop: 1" if "X-Hop" in field else "X-Other: 1"))
    answer = ask("GET", "/wallets")
    assert answer.all(field.partition(":")[0]) == (["keep-alive"] if field.startswith("Connection") else [])
    assert answer.all("x-hop") == []


def test_several_cookie_fields_are_joined(ask: Ask, wallets: RawCluster) -> None:
    assert ask("GET", "/wallets", "Cookie: a=1", "X-A: 1", "cookie: b=2; c=3", "X-A: 2", "Cookie: d=4").status == 200
    assert wallets.request.all("cookie") == ["a=1; b=2; c=3; d=4"]
    assert wallets.request.all("x-a") == ["1,2"]


def test_several_set_cookie_fields_stay_separate(ask: Ask, wallets: RawCluster) -> None:
    cookies = ["a=1; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2; HttpOnly", "a=3; Path=/x"]
    wallets.behaviour = saying(answer_with(*(f"Set-Cookie: {cookie}" for cookie in cookies)))
    assert ask("GET", "/wallets").all("set-cookie") == cookies


@pytest.mark.parametrize("cookie", OWN_COOKIES)
def test_a_cluster_cannot_set_a_cookie_of_the_operator_pages(ask: Ask, wallets: RawCluster, cookie: str) -> None:
    wallets.behaviour = saying(answer_with("Set-Cookie: a=1", f"set-cookie: {cookie}", "Set-Cookie: sessionid2=2"))
    assert ask("GET", "/wallets").all("set-cookie") == ["a=1", "sessionid2=2"]


@given(name=st.text(max_size=12), value=st.text(max_size=12))
def test_no_cookie_of_a_cluster_is_taken_for_one_of_the_operator_pages(name: str, value: str) -> None:
    """A browser sends a cookie as its name, `=` and its value; without a name it sends the value alone."""
    line = f"{name}={value}".encode("utf-8", "replace").decode("latin-1")
    sent = line.partition(";")[0].strip(" \t").removeprefix("=")
    read = parse_cookie(sent.encode("latin-1").decode("utf-8", "replace"))

    assert sets_own_cookie(line) or not {"sessionid", "csrftoken", "messages"} & set(read)


@given(
    padding=st.text("\t =\u00a0\u2003\u3000", max_size=4), name=st.sampled_from(["sessionid", "csrftoken", "messages"])
)
def test_no_padding_hides_a_cookie_of_the_operator_pages(padding: str, name: str) -> None:
    line = f"{padding}{name}{padding}=x".encode().decode("latin-1")

    assert sets_own_cookie(line)


@pytest.mark.parametrize(
    "field",
    [
        "Strict-Transport-Security: max-age=0", "Clear-Site-Data: \"*\"", "Alt-Svc: h3=\"evil.test:443\"",
        "NEL: {}", "Report-To: {}", "strict-transport-security: max-age=1; preload", "CLEAR-SITE-DATA: \"cookies\"",
    ],
)  # fmt: skip
def test_a_cluster_cannot_set_browser_policies_for_the_host(ask: Ask, wallets: RawCluster, field: str) -> None:
    wallets.behaviour = saying(answer_with(field, "X-Other: 1"))
    answer = ask("GET", "/wallets")
    assert (answer.all(field.partition(":")[0]), answer.all("x-other")) == ([], ["1"])


def test_no_answer_names_the_servers_software(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying(answer_with("Server: theirs/1.2"))
    for path in ("/wallets", "/meta/info", "/nothing-here"):
        assert ask("GET", path).all("server") == []


def test_no_cookie_is_kept_for_the_next_request(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying(answer_with("Set-Cookie: a=1"))
    for _ in range(4):
        ask("GET", "/wallets")
    assert [request.all("cookie") for request in wallets.requests] == [[]] * 4


@pytest.mark.parametrize("lengths", [[60_000], [100] * 500])
def test_a_long_head_of_an_answer_is_relayed(ask: Ask, wallets: RawCluster, lengths: list[int]) -> None:
    fields = [f"X-Long: {number}-{'x' * length}" for number, length in enumerate(lengths)]
    wallets.behaviour = saying(answer_with(*fields))

    answer = ask("GET", "/wallets")

    assert [f"X-Long: {value}" for value in answer.all("X-Long")] == fields


def test_repeated_fields_keep_their_order(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying(answer_with("Link: <a>", "WWW-Authenticate: A", "link: <b>", "Link: <c>"))
    answer = ask("GET", "/wallets")
    assert answer.all("link") == ["<a>", "<b>", "<c>"]
    assert answer.all("www-authenticate") == ["A"]


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "nonsense"])
def test_an_encoded_body_is_relayed_undecoded(ask: Ask, wallets: RawCluster, coding: str) -> None:
    body = bytes(range(256)) * 10
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    wallets.behaviour = saying(head.encode() + body)
    answer = ask("GET", "/wallets", f"Accept-Encoding: {coding}")
    assert answer.body == body
    assert answer.all("content-encoding") == [coding]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["http://elsewhere.test/x?y", "/relative", "//elsewhere.test/", "/api/v1/wallets"])
def test_a_redirect_is_relayed_and_not_followed(ask: Ask, wallets: RawCluster, status: int, location: str) -> None:
    wallets.behaviour = saying(f"HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    answer = ask("GET", "/wallets")
    assert (answer.status, answer.all("location")) == (status, [location])
    assert len(wallets.requests) == 1


def test_only_the_gateway_sets_cors_fields(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying(
        answer_with("Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", "access-control-x: y")
    )
    assert not [name for name, _ in ask("GET", "/wallets").fields if name.lower().startswith("access-control-")]
    answer = ask("GET", "/wallets", "Origin: https://app.example.org")
    assert answer.all("access-control-allow-origin") == ["https://app.example.org"]


def test_only_the_gateway_sets_request_id_and_rate_limit_fields(ask: Ask, wallets: RawCluster) -> None:
    fields = ["X-Request-ID: theirs-12345", "X-RateLimit-Limit: 1", "X-RateLimit-Limit: 2", "RateLimit: x",
              "RateLimit-Policy: y"]  # fmt: skip
    wallets.behaviour = saying(answer_with(*fields))
    answer = ask("GET", "/wallets")
    assert answer.all("x-request-id") == wallets.request.all("x-request-id")
    assert not [name for name, _ in answer.fields if "ratelimit" in name.lower()]


@pytest.mark.parametrize("line", ["200 OK", "200 Fine by me", "299 Odd", "404 Nicht gefunden", "599 \xe9\xe8"])
def test_status_and_reason_are_relayed(ask: Ask, wallets: RawCluster, line: str) -> None:
    wallets.behaviour = saying(f"HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nok".encode("latin-1"))
    assert ask("GET", "/wallets").start == f"HTTP/1.1 {line}"


@pytest.mark.parametrize("status", [400, 401, 404, 405, 409, 422, 429, 500, 502, 503, 504])
def test_a_clusters_own_error_is_relayed_unchanged(ask: Ask, wallets: RawCluster, status: int) -> None:
    fields = ["Allow: GET", "Retry-After: 7", "Content-Type: text/plain", "WWW-Authenticate: Basic", "ETag: x"]
    head = "\r\n".join([f"HTTP/1.1 {status} Theirs", *fields, "Content-Length: 4", "", "mine"])
    wallets.behaviour = saying(head.encode())
    answer = ask("POST", "/wallets")
    assert (answer.status, answer.reason, answer.body) == (status, "Theirs", b"mine")
    assert set(fields) < {f"{name}: {value}" for name, value in answer.fields}
    assert len(wallets.requests) == 1


def test_no_content_type_is_added(ask: Ask) -> None:
    assert ask("GET", "/wallets").all("content-type") == []


# Any fields at all.


@dataclass(frozen=True)
class SomeCaller:
    user_id: str = "u-1"
    role: str = "user"
    permissions: frozenset[str] = frozenset({"b", "a"})


# Fields that a cluster must not set, in addition to hop-by-hop fields.
GATEWAYS_OWN = {
    "x-request-id", "strict-transport-security", "clear-site-data", "alt-svc", "nel", "report-to", "server",
}  # fmt: skip
NAME = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12) | st.sampled_from(
    [
        *sorted(OWN | HOP_BY_HOP | GATEWAYS_OWN), "authorization", "x-api-key", "x-user-x", "x-forwarded-x",
        "content-length", "expect", "cookie", "set-cookie", "access-control-x", "ratelimit", "ratelimit-x",
        "x-ratelimit-x",
    ]
)  # fmt: skip
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
FIELDS = st.dictionaries(NAME, VALUE, max_size=8)


@given(fields=FIELDS, connection=st.lists(NAME))
def test_the_gateways_own_fields_always_appear_exactly_once(fields: dict[str, str], connection: list[str]) -> None:
    request = HttpRequest()
    request.META = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in fields.items()}
    request.META |= {"HTTP_HOST": "gateway.test", "HTTP_CONNECTION": ", ".join(connection), "wsgi.url_scheme": "http"}
    record = record_of(request)
    record.request_id, record.client_address = "request-1", "192.0.2.7"

    sent = request_headers(request, SomeCaller(), Instance("http", "cluster.test", 80))

    names = [name for name, _ in sent]
    assert len(names) == len(set(names))
    assert not set(names) & (HOP_BY_HOP | {"authorization", "x-api-key", "content-length", "expect"})
    own = {name: value for name, value in sent if is_own(name)}
    assert TRACEPARENT.fullmatch(own.pop("traceparent"))
    assert own == {
        "host": "cluster.test", "x-request-id": "request-1", "x-user-id": "u-1", "x-user-role": "user",
        "x-user-permissions": "a,b", "x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "http",
        "x-forwarded-host": "gateway.test", "via": "1.1 lucid-api-gateway",
    }  # fmt: skip
    assert {item for item in sent if not is_own(item[0])} <= set(fields.items())


def is_own(name: str) -> bool:
    return name in OWN or name.startswith(("x-user-", "x-forwarded-"))


@given(fields=st.lists(st.tuples(NAME, VALUE), max_size=8), connection=st.lists(NAME))
def test_no_field_of_an_answer_is_changed_or_moved(fields: list[tuple[str, str]], connection: list[str]) -> None:
    passed = response_headers([*fields, ("Connection", ",".join(connection))])
    connection += [name for field, value in fields if field == "connection" for name in value.split(",")]
    dropped = HOP_BY_HOP | GATEWAYS_OWN | {name.strip().lower() for name in connection}
    allowed = [(name, value) for name, value in fields if name not in dropped and not is_dropped(name, value)]
    assert passed == allowed


def is_dropped(name: str, value: str) -> bool:
    if name == "set-cookie":
        return sets_own_cookie(value)
    return name.startswith(("access-control-", "ratelimit", "x-ratelimit-"))

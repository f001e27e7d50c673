"""The path rules: each path has one canonical form, and a path that two servers could read differently is refused."""

import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lucid_gateway.policy.paths import AmbiguousPath, canonical_path
from lucid_gateway.policy.routes import SAFE_IN_PATH
from proxy.tests.conftest import SecondStage, Stage

pytestmark = pytest.mark.planes

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
pieces = st.sampled_from(
    ["/", ".", "..", "%2e", "%2E", "%252e", "%2f", "%252F", "%5c", "\\", ";", "a", "%", "%25", "%00", "%0a", "%c3%a9",
     "%ff", "%c0%ae", "%c2%85", "~", "?", "#", " ", "é", "%20", "%3f", "%23", "\x7f", "\udc80"]
)  # fmt: skip
paths = st.text() | st.lists(pieces, max_size=8).map(lambda parts: "/" + "".join(parts))


@given(paths)
@example("/%25%32%65")
@example("/a%252")
def test_a_canonical_path_is_unambiguous(raw: str) -> None:
    try:
        path = canonical_path(raw)
    except AmbiguousPath:
        return

    assert path.startswith("/")
    segments = path[1:].split("/")
    assert "" not in segments[:-1]
    assert not {".", ".."} & set(segments)
    assert not CONTROL.search(path)
    assert "\\" not in path
    assert unquote(quote(path)) == path
    for safe in ("/", SAFE_IN_PATH):
        assert canonical_path(quote(path, safe=safe)) == path


@given(paths)
def test_decoding_a_path_twice_reveals_no_trick(raw: str) -> None:
    try:
        twice = unquote(canonical_path(raw))
    except AmbiguousPath:
        return

    assert twice.count("/") == raw.count("/")
    assert not {".", ".."} & set(twice.split("/"))


TRICKS = [
    "/pub/../admin", "/pub/%2e%2e/admin", "/pub/.%2E/admin", "/pub/%252e%252e/admin", "/pub/%25252e%25252e/admin",
    "/pub/./admin", "/pub/.", "/..", "/pub/..;/admin", "/pub/..;a=b/admin", "/pub/%2e%2e%3b/admin",
    "/pub/.%20/admin", "/pub/..%20/admin", "/pub\\..\\admin", "/pub/..%5cadmin", "/pub%5cadmin", "/pub%255cadmin",
    "/pub%2fadmin", "/pub%2Fadmin", "/pub%252fadmin", "/pub%25252fadmin", "//evil.example/x", "/pub//admin",
    "///", "/a%00", "/a%00.html", "/a%2500", "/a%0d%0ab", "/a%7f", "/a%c2%85", "/a%ff", "/a%c0%ae", "/a%ed%a0%80",
    "/a%", "/a%2", "/a%zz", "/a%u002e", "/é", "/a#b", "/a?b", "pub", "", "*", "http://host/x",
]  # fmt: skip


@pytest.mark.parametrize("raw", TRICKS)
def test_a_trick_is_refused(raw: str) -> None:
    with pytest.raises(AmbiguousPath):
        canonical_path(raw)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("/api/v1/chain/info", "/api/v1/chain/info"),
        ("/api/v1/users/", "/api/v1/users/"),
        ("/.well-known/jwks.json", "/.well-known/jwks.json"),
        ("/a..b/...", "/a..b/..."),
        ("/caf%C3%A9", "/café"),
        ("/%61%2Db", "/a-b"),
        ("/100%25", "/100%"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/what%3F%23", "/what?#"),
        ("/a b", "/a b"),
    ],
)
def test_a_plain_path_is_decoded_once(raw: str, path: str) -> None:
    assert canonical_path(raw) == path


def test_a_long_path_is_judged_quickly() -> None:
    for piece in ("/a", "%2525", ".", "a;", "/%61"):
        with pytest.raises(AmbiguousPath):
            canonical_path("/" + piece * (8000 // len(piece)) + "/../x")


# Through a real gateway.


@pytest.mark.parametrize(
    "trick", [trick for trick in TRICKS if trick.startswith("/") and trick.isascii() and "?" not in trick]
)
@pytest.mark.parametrize("prefix", ["", "/api/v1/wallets"])
def test_no_trick_reaches_a_cluster(stage: Stage, trick: str, prefix: str) -> None:
    with stage.connect() as client:
        client.send(client.head("GET", "").replace(b"/api/v1 ", f"{prefix}{trick} ".encode(), 1))
        answer = client.read_answer()
    assert (answer.status, answer.code) in ((400, "1001"), (404, "4001"))
    assert not [request for cluster in stage.clusters.values() for request in cluster.requests]


@pytest.mark.parametrize("path", ["/chain/blocks/", "/chain/%62locks", "/chain/blocks/?x"])
def test_other_spellings_of_a_path_share_its_bucket(second_stage: SecondStage, path: str) -> None:
    with second_stage.connect() as client:
        statuses = [client.ask("GET", way).status for way in ("/chain/blocks", path)]
    assert statuses[1] == 429

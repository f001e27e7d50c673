"""Through the gateway, httpbin gives the same status, content fields and body as directly."""

import socket

import pytest

from proxy.tests.conftest import SecondStage
from testing.http.client import RawClient
from testing.http.messages import Message

pytestmark = pytest.mark.planes

SAME_FIELDS = ("content-type", "content-encoding", "etag", "cache-control", "content-range", "location", "set-cookie",
               "allow", "www-authenticate", "last-modified", "accept-ranges", "link", "x-more-info")  # fmt: skip
REQUESTS = [
    ("GET", "/html", ()),
    ("HEAD", "/html", ()),
    ("GET", "/xml", ()),
    ("GET", "/json", ()),
    ("GET", "/robots.txt", ()),
    ("GET", "/deny", ()),
    ("GET", "/encoding/utf8", ()),
    ("GET", "/forms/post", ()),
    ("GET", "/bytes/0", ()),
    ("GET", "/bytes/100000?seed=7", ()),
    ("GET", "/stream-bytes/100000?seed=7&chunk_size=1000", ()),
    ("GET", "/range/1000", ("Range: bytes=10-99",)),
    ("GET", "/range/1000", ("Range: bytes=2000-",)),
    ("GET", "/drip?duration=0.3&numbytes=6&delay=0", ()),
    ("GET", "/drip?duration=0&numbytes=3&delay=0&code=500", ()),
    ("GET", "/links/5/2", ()),
    ("GET", "/cache", ("If-None-Match: x",)),
    ("GET", "/etag/abc", ('If-None-Match: "abc"',)),
    ("GET", "/etag/abc", ('If-Match: "other"',)),
    ("GET", "/image/png", ()),
    ("GET", "/image/svg", ()),
    ("GET", "/image/webp", ()),
    ("GET", "/image", ("Accept: text/none",)),
    ("GET", "/base64/SFRUUEJJTiBpcyBhd2Vzb21l", ()),
    ("GET", "/user-agent", ("User-Agent: me/1.0 (test)",)),
    ("GET", "/cookies", ("Cookie: a=1; b=two",)),
    ("GET", "/cookies/set?a=1&b=2", ()),
    ("GET", "/cookies/delete?a&b", ()),
    ("GET", "/redirect/3", ()),
    ("GET", "/redirect-to?url=http%3A%2F%2Felsewhere.test%2F%3Fa%3Db&status_code=307", ()),
    ("POST", "/redirect-to?url=/x", ()),
    ("GET", "/response-headers?X-A=1&X-A=2&Freeform=a%20b", ()),
    ("GET", "/basic-auth/user/secret", ()),
    ("GET", "/hidden-basic-auth/user/secret", ()),
    ("GET", "/nothing-here", ()),
    ("DELETE", "/html", ()),
    *[(method, f"/status/{code}", ()) for method in ("GET", "POST", "PATCH", "DELETE", "HEAD")
      for code in (200, 201, 202, 204, 301, 304, 400, 401, 402, 404, 406, 407, 418, 422, 429, 500, 502, 503, 504)],
]  # fmt: skip


def ask_directly(stage: SecondStage, method: str, path: str, *fields: str, body: bytes | None = None) -> Message:
    with RawClient(stage.httpbin_port, token="") as client:
        return client.ask(method, f"/wallets{path}", *fields, body=body)


def ask(stage: SecondStage, method: str, path: str, *fields: str, body: bytes | None = None) -> Message:
    with stage.connect() as client:
        return client.ask(method, f"/wallets{path}", *fields, body=body)


def content_fields(answer: Message) -> dict[str, list[str]]:
    return {name: answer.all(name) for name in SAME_FIELDS}


@pytest.mark.parametrize(("method", "path", "fields"), REQUESTS, ids=lambda value: str(value) if value else "plain")
def test_an_answer_equals_the_direct_one(
    second_stage: SecondStage, method: str, path: str, fields: tuple[str, ...]
) -> None:
    direct, through = (way(second_stage, method, path, *fields) for way in (ask_directly, ask))
    assert through.start == direct.start
    assert content_fields(through) == content_fields(direct)
    assert through.body == direct.body


@pytest.mark.parametrize("path", ["/cache/60", "/etag/abc", "/delay/0.1", "/stream/3", "/cookies/set/a/b"])
def test_an_answer_that_echoes_its_request_has_the_same_fields(second_stage: SecondStage, path: str) -> None:
    direct, through = (way(second_stage, "GET", path) for way in (ask_directly, ask))
    assert through.start == direct.start
    assert content_fields(through) == content_fields(direct)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "brotli"])
def test_a_compressed_answer_arrives_compressed(second_stage: SecondStage, coding: str) -> None:
    """The bodies echo the request's fields, which differ, so only their encoding is compared."""
    direct, through = (way(second_stage, "GET", f"/{coding}") for way in (ask_directly, ask))
    assert through.all("content-encoding") == direct.all("content-encoding") != []
    assert through.body[:1] == direct.body[:1] != b"{"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"a": [1, 2, {"b": "\xc3\xa9"}]}'),
        ("application/x-www-form-urlencoded", b"a=1&b=%20x&a=2"),
        (
            "multipart/form-data; boundary=xx",
            b"--xx\r\nContent-Disposition: form-data; name=f\r\n\r\nv\r\n--xx--\r\n",
        ),
        ("application/octet-stream", bytes(range(256))),
    ],
    ids=["json", "form", "multipart", "bytes"],
)
def test_a_request_arrives_as_if_sent_directly(
    second_stage: SecondStage, method: str, content_type: str, body: bytes
) -> None:
    path, fields = "/anything/x%20y?q=1&q=%C3%A9&empty=", (f"Content-Type: {content_type}", "X-Custom: 1")
    direct, through = (way(second_stage, method, path, *fields, body=body).json() for way in (ask_directly, ask))
    for part in ("args", "data", "files", "form", "json", "method"):
        assert through[part] == direct[part]
    assert through["headers"]["X-Custom"] == "1"
    assert through["url"].partition("/api/")[2] == direct["url"].partition("/api/")[2]


def test_a_stream_arrives_piece_by_piece(second_stage: SecondStage) -> None:
    with second_stage.connect() as client:
        client.send(client.head("GET", "/wallets/drip?duration=2&numbytes=4&delay=0"))
        head = client.read_head()
        client.sock.settimeout(1.5)
        while b"*" not in client.buffer:
            assert client.more()
        assert client.buffer.count(b"*") < 4
        assert head.status == 200
        client.sock.shutdown(socket.SHUT_RDWR)

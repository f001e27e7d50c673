"""Documents that are the same for all clients: sent once, compressed, and cheap to serve."""

import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_gateway.kernel.documents import Document, accepts_gzip
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient, ask, request_bytes
from testing.http.messages import Message

CSS = "/static/operators/console.css"
# Path, and whether compression saves enough.
DOCUMENTS = {
    "/": False,
    "/openapi.json": True,
    "/docs": False,
    "/redoc": False,
    "/login": True,
    "/reset-password": True,
    "/confirm-email": True,
    "/.well-known/jwks.json": False,
    "/api/v1/meta/info": False,
    "/api/v1/meta/version": False,
    CSS: True,
    "/static/accounts/icon.svg": False,
    "/static/lucid_gateway/swagger.js": False,
    "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js": True,
}


def get(gateway: Gateway, path: str, *fields: str) -> Message:
    return ask(gateway.port, request_bytes("GET", path, *fields))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_client_that_has_a_document_gets_304(gateway: Gateway, path: str) -> None:
    for coding in ("identity", "gzip"):
        first = get(gateway, path, f"Accept-Encoding: {coding}")
        etag = first.header("ETag")
        assert etag is not None
        assert etag.startswith('"')
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = get(gateway, path, f"Accept-Encoding: {coding}", f"If-None-Match: {known}")
            assert (again.status, again.body, again.header("ETag")) == (304, b"", etag)
            assert again.header("Cache-Control") == first.header("Cache-Control")
            assert again.header("Vary") == first.header("Vary")
        assert get(gateway, path, f"Accept-Encoding: {coding}", 'If-None-Match: "other"').status == 200


@pytest.mark.parametrize(("path", "pays"), DOCUMENTS.items())
def test_a_document_is_compressed_if_that_saves_enough(gateway: Gateway, path: str, pays: bool) -> None:
    plain, coded = get(gateway, path), get(gateway, path, "Accept-Encoding: br, gzip;q=0.5")
    refused = get(gateway, path, "Accept-Encoding: gzip;q=0, *")

    assert plain.header("Content-Encoding") is None
    assert (refused.header("Content-Encoding"), refused.body) == (None, plain.body)
    assert coded.header("Content-Encoding") == ("gzip" if pays else None)
    assert (gzip.decompress(coded.body) if pays else coded.body) == plain.body
    assert ("Accept-Encoding" in (plain.header("Vary") or "")) == pays
    assert (coded.header("ETag") != plain.header("ETag")) == pays
    if pays:
        assert len(coded.body) < 0.6 * len(plain.body)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_head_returns_the_headers_of_get(gateway: Gateway, path: str) -> None:
    whole = get(gateway, path, "Accept-Encoding: gzip")
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("HEAD", path, "Accept-Encoding: gzip"))
        head = connection.read_answer("HEAD")

    for name in ("Content-Length", "Content-Type", "Content-Encoding", "ETag", "Cache-Control"):
        assert head.header(name) == whole.header(name)


def processor_time(master: int) -> float:
    """Return the processor seconds that the workers of a gateway have used."""
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    fields = [Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split() for worker in workers]
    return sum(int(values[11]) + int(values[12]) for values in fields) / 100


def test_the_openapi_document_is_built_once() -> None:
    """Building it takes at least 85 ms of processor time."""
    with running_gateway(API_DOCS_ENABLED="true", WEB_CONCURRENCY="1", RATE_LIMIT_ENABLED="false") as gateway:
        etag = get(gateway, "/openapi.json").header("ETag")
        started = processor_time(gateway.process.pid)
        answers = [get(gateway, "/openapi.json", "Accept-Encoding: gzip") for _ in range(40)]
        spent = processor_time(gateway.process.pid) - started

    assert {answer.status for answer in answers} == {200}
    assert etag is not None
    assert {answer.header("ETag") for answer in answers} == {f'{etag[:-1]}-gzip"'}
    assert spent < 40 * 0.085 / 3


def test_only_a_versioned_file_may_be_cached_forever(gateway: Gateway) -> None:
    version = hashlib.sha256(get(gateway, CSS).body).hexdigest()[:16]

    assert get(gateway, f"{CSS}?v={version}").header("Cache-Control") == "public, max-age=31536000, immutable"
    for query in ("", "?v=0123456789abcdef", f"?v={version}&x", "?v="):
        assert get(gateway, CSS + query).header("Cache-Control") == "public, max-age=3600"
    assert f'"{CSS}?v={version}"' in get(gateway, "/admin/login/").body.decode()


def test_maps_of_scripts_are_not_served(gateway: Gateway) -> None:
    path = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"

    assert get(gateway, path).status == 200
    assert get(gateway, f"{path}.map").code == "4001"


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("", False), ("gzip", True), ("GZIP", True), ("br, gzip", True), ("gzip;q=1.0", True), ("gzip ; q=0.001", True),
        ("gzip;q=0", False), ("gzip;q=0.000", False), ("gzip; q=0 , *", False), ("*", True), ("*;q=0", False),
        ("br, *;q=0.1", True), ("identity", False), ("xgzip", False), ("gzipped", False), (",,;;", False),
    ],
)  # fmt: skip
def test_accept_encoding_decides_about_gzip(field: str, accepted: bool) -> None:
    assert accepts_gzip(field) is accepted


@given(st.text(max_size=40))
def test_any_accept_encoding_is_accepted_or_not(field: str) -> None:
    assert accepts_gzip(field) in (True, False)


def test_incompressible_content_is_not_compressed() -> None:
    noise = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(200))

    assert Document(noise, "image/png").compressed is None
    assert Document(b"a" * 5000, "text/plain").compressed is not None

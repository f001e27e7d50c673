"""The security headers of a gateway behind TLS."""

from collections.abc import Iterator

import pytest

from testing.gateway import Gateway, running_gateway
from testing.http.client import ask, request_bytes
from testing.http.messages import Message

pytestmark = pytest.mark.planes
INFO = "/api/v1/meta/info"


def get(gateway: Gateway, path: str, *fields: str) -> Message:
    """Return the answer to a request that a trusted proxy received over TLS."""
    return ask(gateway.port, request_bytes("GET", path, "X-Forwarded-Proto: https", *fields))


@pytest.fixture(scope="module")
def behind_tls() -> Iterator[Gateway]:
    """A gateway behind a proxy that terminates TLS, with the defaults of production."""
    with running_gateway(SSL_ENABLED="true", TRUSTED_PROXIES="127.0.0.1", API_DOCS_ENABLED="true") as gateway:
        yield gateway


def test_hsts_covers_only_the_gateways_own_host(behind_tls: Gateway) -> None:
    assert get(behind_tls, INFO).header("Strict-Transport-Security") == "max-age=31536000"


def test_an_operator_can_extend_hsts_to_subdomains_and_preload() -> None:
    settings = {"HSTS_INCLUDE_SUBDOMAINS": "true", "HSTS_PRELOAD": "true"}
    with running_gateway(SSL_ENABLED="true", TRUSTED_PROXIES="127.0.0.1", WEB_CONCURRENCY="1", **settings) as gateway:
        answer = get(gateway, INFO)

    assert answer.header("Strict-Transport-Security") == "max-age=31536000; includeSubDomains; preload"

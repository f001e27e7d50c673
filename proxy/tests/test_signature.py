"""The signature over identity headers, verified by the example in the documentation."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.connection.signature import signature
from testing.gateway import running_gateway
from testing.http.client import RawClient
from testing.http.cluster import RawCluster
from testing.http.messages import Message
from testing.servers import ROOT

pytestmark = pytest.mark.planes

SECRET = "a-secret-between-gateway-and-clusters"
FIELDS = {"x-user-id": "u-1", "x-user-role": "user", "x-user-permissions": "a:b,c:d", "x-request-id": "r-1"}
Verify = Callable[..., bool]


@pytest.fixture(scope="module")
def is_from_gateway() -> Verify:
    """The function of the example in docs/clusters.md."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/clusters.md").read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(example, namespace)
    found: Verify = namespace["is_from_gateway"]
    return found


@pytest.fixture(scope="module")
def signed() -> Iterator[Message]:
    """A request as received by a cluster behind a gateway with a signing secret."""
    with (
        RawCluster() as cluster,
        running_gateway(TRON_PAYMENT_URL=cluster.url, IDENTITY_SIGNING_SECRET=SECRET) as gateway,
    ):
        with RawClient(gateway.port, gateway.issue_token("demo@lucid.test")) as client:
            forged = ["X-Gateway-Signature: t=1,v1=00", "X-User-Id: somebody-else"]
            assert client.ask("POST", "/wallets/a%20b?x=1&y=%7e", *forged, body=b"{}").status == 200
        yield cluster.request


def headers_of(request: Message) -> dict[str, str]:
    """Return the signed fields with the names that the documentation uses."""
    names = ("X-User-Id", "X-User-Role", "X-User-Permissions", "X-Request-ID", "X-Gateway-Signature")
    return {name: dict(request.fields)[name.lower()] for name in names}


def test_a_cluster_can_verify_a_request(signed: Message, is_from_gateway: Verify) -> None:
    method, target, _ = signed.start.split(" ")
    assert is_from_gateway(SECRET.encode(), method, target, headers_of(signed))
    assert [name for name, _ in signed.fields].count("x-gateway-signature") == 1


@pytest.mark.parametrize("changed", ["method", "target", "secret", "X-User-Id", "X-User-Role", "X-Request-ID"])
def test_any_change_makes_the_signature_invalid(signed: Message, is_from_gateway: Verify, changed: str) -> None:
    method, target, _ = signed.start.split(" ")
    given = {"secret": SECRET, "method": method, "target": target} | headers_of(signed)
    given[changed] += "x"
    headers = {name: value for name, value in given.items() if name.startswith("X-")}
    assert not is_from_gateway(given["secret"].encode(), given["method"], given["target"], headers)


def test_an_old_signature_is_refused(is_from_gateway: Verify) -> None:
    headers = {name.title().replace("-Request-Id", "-Request-ID"): value for name, value in FIELDS.items()}
    for age, valid in ((59, True), (61, False)):
        headers["X-Gateway-Signature"] = signature(SECRET, "GET", "/x", FIELDS, int(time.time()) - age)
        assert is_from_gateway(SECRET.encode(), "GET", "/x", headers) is valid


def test_a_request_without_a_signature_is_refused(is_from_gateway: Verify) -> None:
    headers = {"X-User-Id": "u", "X-User-Role": "user", "X-User-Permissions": "", "X-Request-ID": "r"}
    assert not is_from_gateway(SECRET.encode(), "GET", "/x", headers)


def test_the_signature_is_the_hmac_of_the_lines() -> None:
    assert signature("key", "GET", "/x?y", FIELDS, 1_700_000_000) == (
        "t=1700000000,v1=f724fc2a406d6e0c91ab6db6dbf7f49198095b5248edf6f800c1e498b196103e"
    )

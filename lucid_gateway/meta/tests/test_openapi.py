"""The API documents: served only if they are enabled, without files from other hosts."""

import json
import re

import pytest

from conftest import ApiClient, error_code
from testing.gateway import Gateway
from testing.http.client import ask, request_bytes

PAGES = ["/docs", "/redoc"]


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json"])
def test_the_documents_are_disabled_by_default(api: ApiClient, path: str) -> None:
    assert error_code(api.get(path)) == "4001"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_from_other_hosts(gateway: Gateway, path: str) -> None:
    page = ask(gateway.port, request_bytes("GET", path))
    addresses = re.findall(r"""(?:src|href|url)=["']([^"']+)""", page.body.decode())

    assert page.status == 200
    assert "openapi.json" in page.body.decode()
    assert b"https://" not in page.body
    assert addresses
    for address in addresses:
        assert address.startswith("/")
        assert ask(gateway.port, request_bytes("GET", address)).status == 200


def test_the_document_is_json(gateway: Gateway) -> None:
    answer = ask(gateway.port, request_bytes("GET", "/openapi.json"))
    document = json.loads(answer.body)

    assert "json" in (answer.header("Content-Type") or "")
    assert document["openapi"].startswith("3.")
    assert "/api/v1/auth/login" in document["paths"]


def test_every_operation_describes_its_errors(gateway: Gateway) -> None:
    document = json.loads(ask(gateway.port, request_bytes("GET", "/openapi.json")).body)
    operations = [operation for path in document["paths"].values() for operation in path.values()]

    assert all("default" in operation["responses"] for operation in operations)
    assert document["components"]["schemas"]["Error"]["required"] == ["error"]

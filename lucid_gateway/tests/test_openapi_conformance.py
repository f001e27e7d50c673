"""What the OpenAPI document says is what the gateway does: schemathesis calls all with good and bad data."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from demo.launch import running_clusters
from testing.gateway import Gateway, running_gateway
from testing.servers import ROOT

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENT = schemathesis.openapi.from_path(ROOT / "docs" / "openapi.yaml")
OPERATIONS = [found.ok() for found in DOCUMENT.get_all_operations()]


@pytest.fixture(scope="module")
def documented_gateway() -> Iterator[Gateway]:
    with running_clusters() as clusters, running_gateway(
        API_DOCS_ENABLED="true", RATE_LIMIT_ENABLED="false",
        BLOCKCHAIN_CORE_URL=clusters.blockchain_core, TRON_PAYMENT_URL=clusters.tron_payment,
    ) as gateway:  # fmt: skip
        yield gateway


@pytest.fixture(scope="module")
def tokens(documented_gateway: Gateway) -> dict[str, str]:
    """Return a token for most operations, and another user's for the one that ends all of its caller's."""
    users = {"": "operator@lucid.test", "POST /api/v1/auth/logout": "demo@lucid.test"}
    return {label: documented_gateway.issue_token(email) for label, email in users.items()}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_operation_answers_as_documented(
    operation: Any, documented_gateway: Gateway, tokens: dict[str, str]
) -> None:
    headers = {"Authorization": f"Bearer {tokens.get(operation.label, tokens[''])}"}
    base = f"http://127.0.0.1:{documented_gateway.port}"

    @settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy())
    def call(case: Any) -> None:
        case.call_and_validate(base_url=base, headers=headers, checks=CHECKS)

    call()

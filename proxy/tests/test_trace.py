"""The trace of a request: the client's if it is well-formed, else a new one."""

import re

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from proxy.connection.trace import TRACEPARENT, client_traceparent, traceparent
from testing.http.client import Ask
from testing.http.cluster import RawCluster

pytestmark = pytest.mark.planes

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"
INVALID = [
    "", "nonsense", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}", f"{VALID},{VALID}",
    f"cc-{TRACE}-{SPAN}-01more",
]  # fmt: skip


def test_the_trace_and_its_state_of_the_client_are_forwarded(ask: Ask, wallets: RawCluster) -> None:
    ask("GET", "/wallets", f"traceparent: {VALID}", "tracestate: vendor=1")
    fields = dict(wallets.request.fields)
    assert (fields["traceparent"], fields["tracestate"]) == (VALID, "vendor=1")


@pytest.mark.parametrize("sent", INVALID)
def test_an_invalid_traceparent_starts_a_new_trace_without_state(ask: Ask, wallets: RawCluster, sent: str) -> None:
    ask("GET", "/wallets", *([f"traceparent: {sent}"] if sent else []), "tracestate: vendor=1")
    values = [value for name, value in wallets.request.fields if name == "traceparent"]
    assert len(values) == 1
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", values[0])
    assert values[0][3:35] not in (TRACE, "0" * 32)
    assert "tracestate" not in dict(wallets.request.fields)


def test_a_later_version_is_forwarded_unchanged() -> None:
    later = f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"
    assert client_traceparent(RequestFactory().get("/", headers={"traceparent": later})) == later


def test_all_attempts_of_a_request_share_one_trace() -> None:
    request = RequestFactory().get("/")
    assert traceparent(request) == traceparent(request)


@given(st.text(alphabet="0123456789abcdefABCDEF-, \x00", max_size=70))
def test_the_forwarded_traceparent_is_always_well_formed(sent: str) -> None:
    request = RequestFactory().get("/", HTTP_TRACEPARENT=sent)
    assert TRACEPARENT.match(traceparent(request))

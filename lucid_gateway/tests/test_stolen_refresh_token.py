"""A thief copies a refresh token: its second use ends the login for both, but no other login. A client that lost the
answer to its refresh may repeat it.
"""

import time

import pytest

from accounts.tokens.issuing import PARALLEL
from lucid_gateway.tests.conftest import Service
from testing.hammer import api
from testing.http.client import RawClient

pytestmark = pytest.mark.usefixtures("db")
OWNER, THIEF, PHONE = "192.0.2.10", "203.0.113.66", "192.0.2.11"


@pytest.mark.parametrize("first", ["thief", "owner"])
def test_a_stolen_refresh_token_ends_the_login_for_both(service: Service, first: str) -> None:
    email = service.register(f"robbed-by-{first}")
    laptop = service.log_in(email, 1, address=OWNER)
    phone = service.log_in(email, 2, first="token", address=PHONE)
    family = service.call("GET", "/auth/status", token=laptop["access_token"])[1]["session_id"]

    # Both use the same token, one after the other. The second use is refused.
    order = [THIEF, OWNER] if first == "thief" else [OWNER, THIEF]
    stolen = {"refresh_token": laptop["refresh_token"]}
    status, renewed = service.call("POST", "/auth/refresh", stolen, address=order[0])
    assert status == 200
    assert service.call("GET", "/users/me", token=renewed["access_token"], address=order[0])[0] == 200
    assert service.error("POST", "/auth/refresh", stolen, address=order[1]) == "401 2010"

    # The login has ended for both, with all its tokens.
    for token in (laptop["access_token"], renewed["access_token"]):
        assert service.error("GET", "/users/me", token=token) == "401 2003"
    for token in (laptop["refresh_token"], renewed["refresh_token"]):
        assert service.error("POST", "/auth/refresh", {"refresh_token": token}) == "401 2010"

    # The phone's login continues; it is the only device left.
    _, answer = service.call("GET", "/auth/sessions", token=phone["access_token"], address=PHONE)
    assert [(device["address"], device["current"]) for device in answer["sessions"]] == [(PHONE, True)]
    status, phone = service.call("POST", "/auth/refresh", {"refresh_token": phone["refresh_token"]}, address=PHONE)
    assert status == 200

    # Staff see what happened, and from where.
    admin = service.gateway.issue_token("admin@lucid.test")
    query = f"/admin/audit?type=token.reused&subject={laptop['user']['user_id']}"
    status, audit = service.call("GET", query, token=admin)
    assert status == 200
    event = audit["events"][-1]
    assert (event["type"], event["outcome"], event["address"]) == ("token.reused", "failure", order[1])
    assert event["details"]["family"] == family
    assert {event["details"]["family"] for event in audit["events"]} == {family}

    # The owner logs in again.
    again = service.log_in(email, 3, address=OWNER)
    assert service.call("GET", "/users/me", token=again["access_token"], address=OWNER)[0] == 200
    assert service.call("POST", "/auth/refresh", {"refresh_token": again["refresh_token"]}, address=OWNER)[0] == 200


def test_a_client_that_loses_the_answer_to_its_refresh_stays_signed_in(service: Service) -> None:
    tokens = service.log_in(service.register("in-a-tunnel"), 1, address=OWNER)
    used = {"refresh_token": tokens["refresh_token"]}
    with RawClient(service.gateway.port, timeout=20) as connection:
        connection.send(api("POST", "/auth/refresh", used, f"X-Forwarded-For: {OWNER}"))
        connection.sock.recv(1)  # the answer has begun, and the client does not read the rest
    time.sleep(PARALLEL.total_seconds() + 0.2)

    status, new = service.call("POST", "/auth/refresh", used, address=OWNER)
    assert status == 200
    for token in (tokens["access_token"], new["access_token"]):
        assert service.call("GET", "/users/me", token=token, address=OWNER)[0] == 200
    _, answer = service.call("GET", "/auth/sessions", token=new["access_token"], address=OWNER)
    assert len(answer["sessions"]) == 1

    # A further use counts as reuse.
    assert service.error("POST", "/auth/refresh", used, address=OWNER) == "401 2010"
    assert service.error("GET", "/users/me", token=new["access_token"]) == "401 2003"

"""GET /auth/sessions and DELETE /auth/sessions/{id}: the devices that are signed in."""

import uuid
from datetime import timedelta
from typing import Any

import jwt
from django.utils import timezone

from accounts.models import IssuedToken, User
from accounts.tests.conftest import post, use
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.record import RequestRecord, current


def family_of(tokens: TokenPair) -> str:
    family: str = jwt.decode(tokens.access, options={"verify_signature": False})["family"]
    return family


def sign_in(user: User, address: str, user_agent: str) -> TokenPair:
    """Return the tokens of a login from another address."""
    noted = current.set(RequestRecord(client_address=address, user_agent=user_agent))
    try:
        return issue_tokens(user)
    finally:
        current.reset(noted)


def devices(api: ApiClient, tokens: TokenPair) -> list[dict[str, Any]]:
    response = api.send("get", "/auth/sessions", token=tokens.access)
    assert response.status_code == 200
    assert set(response.json()) == {"sessions"}
    found: list[dict[str, Any]] = response.json()["sessions"]
    return found


def test_each_login_is_a_device_with_its_details(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    sign_in(owner, "2001:db8::7", "browser")
    laptop, here = sorted(devices(api, tokens), key=lambda device: device["address"], reverse=True)

    assert (laptop["address"], laptop["user_agent"], laptop["current"]) == ("2001:db8::7", "browser", False)
    assert (here["address"], here["user_agent"], here["current"]) == ("192.0.2.1", "pytest", True)
    assert here["session_id"] == family_of(tokens)
    assert set(here) == {
        "session_id", "signed_in_at", "last_used_at", "expires_at", "address", "user_agent", "current",
    }  # fmt: skip


def test_a_refresh_makes_no_new_device_and_keeps_its_login_time(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    earlier = timezone.now() - timedelta(hours=2)
    IssuedToken.objects.update(signed_in_at=earlier, issued_at=earlier)
    new = post(api, "refresh", refresh_token=tokens.refresh).json()

    (device,) = api.send("get", "/auth/sessions", token=new["access_token"]).json()["sessions"]
    assert (device["session_id"], device["current"]) == (family_of(tokens), True)
    assert device["signed_in_at"][:19] == earlier.isoformat()[:19]
    assert device["last_used_at"] > device["signed_in_at"]
    assert device["address"] == "127.0.0.1"


def test_the_most_recently_used_device_comes_first(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    older = sign_in(owner, "192.0.2.2", "older")
    IssuedToken.objects.filter(family=family_of(older)).update(issued_at=timezone.now() - timedelta(hours=1))

    assert [device["user_agent"] for device in devices(api, tokens)] == ["pytest", "older"]


def test_ended_devices_and_those_of_other_users_are_not_listed(
    api: ApiClient, owner: User, tokens: TokenPair, intruder: TokenPair
) -> None:
    ended, expired = (sign_in(owner, "192.0.2.3", "gone") for _ in range(2))
    post(api, "logout", ended.access)
    IssuedToken.objects.filter(family=family_of(expired)).update(expires_at=timezone.now())

    assert [device["session_id"] for device in devices(api, tokens)] == [family_of(tokens)]


def test_signing_out_a_device_takes_effect_at_once_and_leaves_the_others(
    api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    elsewhere = sign_in(owner, "192.0.2.2", "elsewhere")
    response = api.send("delete", f"/auth/sessions/{family_of(elsewhere)}", token=tokens.access)

    assert (response.status_code, response.content) == (204, b"")
    assert error_code(api.send("get", "/users/me", token=elsewhere.access)) == "2003"
    assert use(api, elsewhere.refresh) == 401
    assert len(devices(api, tokens)) == 1
    event = AuditEvent.objects.filter(type="token.revoked").get()
    assert (event.subject, event.details["family"]) == (str(owner.pk), family_of(elsewhere))


def test_the_current_device_can_be_signed_out(api: ApiClient, tokens: TokenPair) -> None:
    assert api.send("delete", f"/auth/sessions/{family_of(tokens)}", token=tokens.access).status_code == 204

    assert error_code(api.send("get", "/auth/sessions", token=tokens.access)) == "2003"


def test_a_device_of_another_user_is_not_found(api: ApiClient, tokens: TokenPair, intruder: TokenPair) -> None:
    response = api.send("delete", f"/auth/sessions/{family_of(tokens)}", token=intruder.access)

    assert (response.status_code, error_code(response)) == (404, "4001")
    assert api.send("get", "/users/me", token=tokens.access).status_code == 200


def test_an_ended_or_unknown_device_is_not_found(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    ended = sign_in(owner, "192.0.2.2", "ended")
    post(api, "logout", ended.access)

    for family in (family_of(ended), str(uuid.uuid4())):
        assert error_code(api.send("delete", f"/auth/sessions/{family}", token=tokens.access)) == "4001"


def test_a_malformed_id_is_refused(api: ApiClient, tokens: TokenPair) -> None:
    response = api.send("delete", "/auth/sessions/mine", token=tokens.access)

    assert (response.status_code, error_code(response)) == (422, "1005")


def test_it_needs_an_access_token(api: ApiClient) -> None:
    assert error_code(api.send("get", "/auth/sessions")) == "2001"
    assert error_code(api.send("delete", f"/auth/sessions/{uuid.uuid4()}")) == "2001"

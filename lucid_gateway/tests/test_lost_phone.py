"""A user loses the phone with the authenticator app, and logs in again with recovery codes and a new phone."""

from typing import Any

import pytest

from lucid_gateway.tests.conftest import PASSWORD, Service, codes_of

pytestmark = pytest.mark.usefixtures("db")


def verify(service: Service, email: str, **shown: str) -> tuple[int, Any]:
    return service.call("POST", "/auth/verify", {"email": email} | shown)


def refusal(service: Service, email: str, **shown: str) -> str:
    return service.error("POST", "/auth/verify", {"email": email} | shown)


def enable_totp(service: Service, token: str) -> tuple[str, list[str]]:
    """Enrol an app and confirm it with the code of the previous step; return its secret and the recovery codes."""
    status, enrolment = service.call("POST", "/auth/totp", token=token)
    assert status == 200
    code, _, _ = codes_of(enrolment["secret"])
    status, answer = service.call("POST", "/auth/totp/confirm", {"totp": code}, token)
    assert (status, len(answer["recovery_codes"])) == (200, 10)
    return enrolment["secret"], answer["recovery_codes"]


def test_a_lost_phone_is_replaced_with_recovery_codes(service: Service) -> None:
    # The user has an app and logs in with it.
    email = service.register("phone-loser")
    access = service.log_in(email, 1)["access_token"]
    old_secret, old_codes = enable_totp(service, access)
    _, code, _ = codes_of(old_secret)
    service.log_in(email, 2, totp=code)

    # The user loses the phone: the link alone is not enough, the link with a recovery code is.
    link = service.mailed(email, 3)["token"]
    status, answer = verify(service, email, token=link)
    assert (status, answer["error"]["details"]["required"]) == (401, ["totp"])
    status, tokens = verify(service, email, token=link, recovery_code=old_codes[0])
    assert (status, tokens["user"]["totp_enabled"]) == (200, True)
    access = tokens["access_token"]

    # Removing the old app needs an unused recovery code.
    assert service.error("DELETE", "/auth/totp", {"recovery_code": old_codes[0]}, access) == "401 2007"
    assert service.error("POST", "/auth/totp", token=access) == "409 4002"
    assert service.call("DELETE", "/auth/totp", {"recovery_code": old_codes[1]}, access)[0] == 204

    # The user enrols the new phone. Codes of the old one no longer work, neither with the mail nor with the password.
    new_secret, new_codes = enable_totp(service, access)
    assert not set(new_codes) & set(old_codes)
    link = service.mailed(email, 4)["token"]
    _, code, later = codes_of(old_secret)
    assert refusal(service, email, token=link, totp=code) == "401 2007"
    assert refusal(service, email, password=PASSWORD, totp=later) == "401 2001"

    # With the new phone, the same link works, and so does the password.
    _, code, later = codes_of(new_secret)
    status, tokens = verify(service, email, token=link, totp=code)
    assert (status, tokens["user"]["totp_enabled"]) == (200, True)
    assert service.call("GET", "/users/me", token=tokens["access_token"])[0] == 200
    assert verify(service, email, password=PASSWORD, totp=later)[0] == 200

    # The old recovery codes no longer work, the new ones do.
    link = service.mailed(email, 5)["token"]
    for dead in old_codes[:3]:
        assert refusal(service, email, token=link, recovery_code=dead) == "401 2007"
    assert verify(service, email, token=link, recovery_code=new_codes[0])[0] == 200

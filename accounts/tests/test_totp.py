"""POST and DELETE /auth/totp, POST /auth/totp/confirm, and the codes of RFC 6238."""

import base64
import hashlib
import hmac
import logging
import re
import struct
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import segno
from cryptography.fernet import Fernet
from redis import Redis

from accounts.factors.table import factors_of
from accounts.factors.totp import matching_step
from accounts.lockouts import account, second_factor, signed_in_user
from accounts.models import User
from accounts.tests.conftest import Clock, Phone, failures_of, notices_to, post, wrong
from accounts.tokens.issuing import TokenPair
from conftest import PASSWORD, ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from testing.mail import Mailbox
from testing.parallel import in_parallel

# RFC 6238, appendix B: SHA-1; the last six of the eight digits (RFC 4226, section 5.3).
RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
RFC_CODES = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}


def code_of(secret: str, now: float, steps_off: int = 0) -> str:
    """Return the code of the secret, computed here from the RFCs alone."""
    counter = struct.pack(">Q", int(now) // 30 + steps_off)
    digest = hmac.digest(base64.b32decode(secret), counter, hashlib.sha1)
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


def switch_off(api: ApiClient, tokens: TokenPair, **shown: Any) -> Any:
    return api.send("delete", "/auth/totp", shown, token=tokens.access)


@pytest.mark.parametrize("moment", RFC_CODES)
def test_the_codes_match_those_of_the_rfc(moment: int) -> None:
    code = RFC_CODES[moment][2:]

    assert matching_step(RFC_SECRET, code, moment) == moment // 30
    assert matching_step(RFC_SECRET, wrong(code), moment) is None


@pytest.mark.parametrize("moment", list(RFC_CODES)[1:])
def test_a_code_one_step_off_is_accepted_and_two_steps_off_is_not(moment: int) -> None:
    code, start = RFC_CODES[moment][2:], moment // 30 * 30

    accepted = {seconds: matching_step(RFC_SECRET, code, start + seconds) for seconds in (-31, -30, 0, 29, 30, 59, 60)}
    assert accepted == dict.fromkeys(accepted, moment // 30) | {-31: None, 60: None}


def test_each_enrolment_shows_a_new_secret_and_logins_need_no_code_yet(
    api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    first, second = (post(api, "totp", tokens.access) for _ in range(2))

    assert first.status_code == second.status_code == 200
    assert set(first.json()) == {"secret", "otpauth_url", "qr_code"}
    assert first.json()["secret"] != second.json()["secret"]
    assert len(base64.b32decode(first.json()["secret"])) >= 20  # RFC 4226, section 4: 160 bits
    owner.refresh_from_db()
    assert factors_of(owner) == ()


def test_the_url_has_the_form_that_authenticator_apps_read(api: ApiClient, tokens: TokenPair) -> None:
    answer = post(api, "totp", tokens.access).json()

    url = urlsplit(answer["otpauth_url"])
    assert (url.scheme, url.netloc, unquote(url.path)) == ("otpauth", "totp", "/Lucid:owner@example.org")
    facts = parse_qs(url.query)
    assert (facts["secret"], facts["issuer"]) == ([answer["secret"]], ["Lucid"])
    defaults = {"algorithm": ["SHA1"], "digits": ["6"], "period": ["30"]}
    assert {name: facts.get(name, value) for name, value in defaults.items()} == defaults


def test_the_qr_code_is_an_svg_picture_of_the_url(api: ApiClient, tokens: TokenPair) -> None:
    answer = post(api, "totp", tokens.access).json()

    kind, _, picture = answer["qr_code"].partition(",")
    assert kind == "data:image/svg+xml;charset=utf-8"
    assert dark_modules(unquote(picture)) == modules_of(answer["otpauth_url"])


def dark_modules(svg: str) -> set[tuple[int, int]]:
    """Return (row, column) of the dark modules in the picture: its path has horizontal strokes, each in one row."""
    path = re.search(" d='([^']+)'", svg)
    assert path is not None
    dark, x, y = set(), 0.0, 0.0
    for command, numbers in re.findall(r"([Mmh])([-\d. ]+)", path[1]):
        values = [float(number) for number in re.findall(r"-?\d*\.?\d+", numbers)]
        if command == "M":
            x, y = values
        elif command == "m":
            x, y = x + values[0], y + values[1]
        else:
            dark |= {(int(y), column) for column in range(int(x), int(x + values[0]))}
            x += values[0]
    return dark


def modules_of(text: str) -> set[tuple[int, int]]:
    """Return (row, column) of the dark modules of the text's QR code, with its quiet zone."""
    rows = segno.make(text, error="m").matrix_iter(border=4)
    return {(row, column) for row, line in enumerate(rows) for column, dark in enumerate(line) if dark}


def test_the_secret_is_encrypted_at_rest(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    secret = post(api, "totp", tokens.access).json()["secret"]

    stored = User.objects.values_list("totp_secret", flat=True).get(pk=owner.pk)
    assert stored.startswith("gAAAA")  # Fernet's version and the time's first bytes
    for form in (secret, secret.lower(), base64.b32decode(secret).hex()):
        assert form not in stored


def test_a_first_code_switches_it_on_and_gives_ten_recovery_codes(
    api: ApiClient, owner: User, tokens: TokenPair, clock: Clock, mailbox: Mailbox
) -> None:
    secret = post(api, "totp", tokens.access).json()["secret"]
    response = post(api, "totp/confirm", tokens.access, totp=code_of(secret, clock.now))

    assert response.status_code == 200
    codes = response.json()["recovery_codes"]
    assert len(set(codes)) == 10
    assert all(re.fullmatch("([a-z2-9]{4}-){3}[a-z2-9]{4}", code) for code in codes)
    assert api.send("get", "/users/me", token=tokens.access).json()["totp_enabled"] is True
    assert "authenticator app from now on" in notices_to(mailbox, owner.email)
    assert AuditEvent.objects.filter(type="totp.enabled", subject=str(owner.pk)).count() == 1


def test_a_wrong_first_code_changes_nothing(api: ApiClient, owner: User, tokens: TokenPair, clock: Clock) -> None:
    secret = post(api, "totp", tokens.access).json()["secret"]
    code = code_of(secret, clock.now)

    for shown in (wrong(code), code_of(secret, clock.now, 2), code_of(secret, clock.now, -2)):
        assert error_code(post(api, "totp/confirm", tokens.access, totp=shown)) == "2007"
    owner.refresh_from_db()
    assert (owner.totp_enabled, owner.recovery_codes.count()) == (False, 0)
    assert post(api, "totp/confirm", tokens.access, totp=code).status_code == 200


def test_wrong_first_codes_lead_to_a_lockout(api: ApiClient, owner: User, tokens: TokenPair, clock: Clock) -> None:
    code = code_of(post(api, "totp", tokens.access).json()["secret"], clock.now)
    for _ in range(10):
        assert error_code(post(api, "totp/confirm", tokens.access, totp=wrong(code))) == "2007"

    refused = post(api, "totp/confirm", tokens.access, totp=code)
    assert (refused.status_code, "Retry-After" in refused) == (429, True)
    owner.refresh_from_db()
    assert not owner.totp_enabled


def test_without_an_enrolment_no_code_is_right(api: ApiClient, tokens: TokenPair) -> None:
    assert error_code(post(api, "totp/confirm", tokens.access, totp="123456")) == "2007"


def test_only_the_newest_enrolment_can_be_confirmed(api: ApiClient, tokens: TokenPair, clock: Clock) -> None:
    old, new = (post(api, "totp", tokens.access).json()["secret"] for _ in range(2))

    assert error_code(post(api, "totp/confirm", tokens.access, totp=code_of(old, clock.now))) == "2007"
    assert post(api, "totp/confirm", tokens.access, totp=code_of(new, clock.now)).status_code == 200


def test_while_it_is_on_enrolling_and_confirming_are_refused(api: ApiClient, tokens: TokenPair, phone: Phone) -> None:
    for response in (
        post(api, "totp", tokens.access),
        post(api, "totp/confirm", tokens.access, totp=phone.fresh_code()),
    ):
        assert (response.status_code, error_code(response)) == (409, "4002")
    assert switch_off(api, tokens, totp=phone.code()).status_code == 204  # the first secret, whose code is unused


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_confirmations_one_switches_it_on(api: ApiClient, tokens: TokenPair, clock: Clock) -> None:
    code = code_of(post(api, "totp", tokens.access).json()["secret"], clock.now)
    responses = in_parallel(
        5, lambda _: post(ApiClient(HTTP_HOST="testserver"), "totp/confirm", tokens.access, totp=code)
    )

    assert [response.status_code for response in responses].count(200) == 1
    assert User.objects.get().recovery_codes.count() == 10


def test_the_code_that_confirmed_does_not_log_in(api: ApiClient, code: str, phone: Phone) -> None:
    shown = {"email": "owner@example.org", "code": code, "totp": phone.code()}

    assert error_code(post(api, "verify", **shown)) == "2007"


def test_a_step_works_once_and_earlier_steps_no_longer_work(api: ApiClient, owner: User, phone: Phone) -> None:
    phone.clock.now += 90
    shown = {"email": owner.email, "password": PASSWORD}
    later, now, earlier = (phone.code(off) for off in (1, 0, -1))

    assert post(api, "verify", **shown, totp=now).status_code == 200
    assert error_code(post(api, "verify", **shown, totp=now)) == "2001"
    assert error_code(post(api, "verify", **shown, totp=earlier)) == "2001"
    assert post(api, "verify", **shown, totp=later).status_code == 200


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_uses_of_a_step_one_succeeds(api: ApiClient, tokens: TokenPair, phone: Phone) -> None:
    code = phone.fresh_code()
    statuses = in_parallel(5, lambda _: switch_off(ApiClient(HTTP_HOST="testserver"), tokens, totp=code).status_code)

    assert statuses.count(204) == 1


def test_a_code_switches_it_off_and_deletes_the_secret_and_the_recovery_codes(
    api: ApiClient, owner: User, tokens: TokenPair, phone: Phone, mailbox: Mailbox
) -> None:
    response = switch_off(api, tokens, totp=phone.fresh_code())

    assert (response.status_code, response.content) == (204, b"")
    owner.refresh_from_db()
    assert (owner.totp_enabled, owner.totp_secret, owner.recovery_codes.count()) == (False, "", 0)
    assert "no longer need a code of an authenticator app" in notices_to(mailbox, owner.email)
    assert AuditEvent.objects.filter(type="totp.disabled", subject=str(owner.pk)).count() == 1


def test_a_recovery_code_switches_it_off(api: ApiClient, tokens: TokenPair, phone: Phone) -> None:
    assert switch_off(api, tokens, recovery_code=phone.recovery_codes[9]).status_code == 204


def test_a_wrong_code_does_not_switch_it_off(api: ApiClient, owner: User, tokens: TokenPair, phone: Phone) -> None:
    assert error_code(switch_off(api, tokens, totp=wrong(phone.fresh_code()))) == "2007"
    assert error_code(switch_off(api, tokens, recovery_code="abcd-efgh-jkmn-pqrs")) == "2007"
    owner.refresh_from_db()
    assert owner.totp_enabled


def test_it_cannot_be_switched_off_if_it_is_off(api: ApiClient, tokens: TokenPair) -> None:
    response = switch_off(api, tokens, totp="123456")

    assert (response.status_code, error_code(response)) == (404, "4001")


def test_guesses_with_a_stolen_token_are_locked_out_and_logins_are_not(
    api: ApiClient, owner: User, tokens: TokenPair, phone: Phone, empty_redis: Redis
) -> None:
    code = phone.fresh_code()
    codes = [error_code(switch_off(api, tokens, totp=wrong(code))) for _ in range(11)]

    assert codes == ["2007"] * 10 + ["3003"]
    assert error_code(switch_off(api, tokens, totp=code)) == "3003"
    assert failures_of(signed_in_user(owner.pk)) == 10
    assert failures_of(account(owner.email)) == failures_of(second_factor(owner.email)) == 0
    assert switch_off(api, tokens, recovery_code=phone.recovery_codes[0]).status_code == 204


def test_a_secret_that_was_switched_off_no_longer_works_after_a_new_enrolment(
    api: ApiClient, tokens: TokenPair, phone: Phone
) -> None:
    switch_off(api, tokens, totp=phone.fresh_code())
    secret = post(api, "totp", tokens.access).json()["secret"]

    assert error_code(post(api, "totp/confirm", tokens.access, totp=phone.fresh_code())) == "2007"
    new = code_of(secret, phone.clock.now)
    assert len(post(api, "totp/confirm", tokens.access, totp=new).json()["recovery_codes"]) == 10


def test_no_answer_shows_the_secret_or_the_recovery_codes_again(
    api: ApiClient, owner: User, super_admin: User, tokens: TokenPair, phone: Phone
) -> None:
    shown = {"email": owner.email, "password": PASSWORD, "totp": phone.fresh_code()}
    answers = [post(api, "verify", **shown), post(api, "totp", tokens.access)]
    answers += [api.send("get", path, token=tokens.access) for path in ("/users/me", "/auth/status", "/auth/sessions")]
    text = "".join(answer.content.decode() for answer in answers)

    for secret in (phone.secret, *phone.recovery_codes, owner.totp_secret, "totp_secret", "totp_last_step"):
        assert secret not in text


def test_the_audit_log_contains_no_secret(api: ApiClient, owner: User, tokens: TokenPair, phone: Phone) -> None:
    code = phone.fresh_code()
    post(api, "verify", email=owner.email, password="Wrong-Horse-7", totp=code)
    switch_off(api, tokens, recovery_code=phone.recovery_codes[0])

    text = repr(list(AuditEvent.objects.values()))
    for secret in (phone.secret, phone.recovery_codes[0], code, "Wrong-Horse-7"):
        assert secret not in text


UNFIT = [
    ("post", "/auth/totp/confirm", {}, "1002"),
    ("post", "/auth/totp/confirm", {"totp": "12345"}, "1003"),
    ("post", "/auth/totp/confirm", {"totp": "123 456"}, "1003"),
    ("post", "/auth/totp/confirm", {"totp": "\uff11\uff12\uff13\uff14\uff15\uff16"}, "1003"),
    ("post", "/auth/totp/confirm", {"totp": None}, "1002"),
    ("delete", "/auth/totp", {}, "1002"),
    ("delete", "/auth/totp", {"totp": "123456", "recovery_code": "abcd"}, "1002"),
    ("delete", "/auth/totp", {"totp": "abcdef"}, "1003"),
    ("delete", "/auth/totp", {"recovery_code": "a" * 41}, "1004"),
    ("delete", "/auth/totp", {"recovery_code": ""}, "1002"),
]


def test_invalid_fields_are_refused(api: ApiClient, tokens: TokenPair) -> None:
    for method, path, data, code in UNFIT:
        response = api.send(method, path, data, token=tokens.access)
        assert (data, response.status_code, error_code(response)) == (data, 422, code)


@pytest.mark.parametrize(
    ("method", "path"), [("post", "/auth/totp"), ("delete", "/auth/totp"), ("post", "/auth/totp/confirm")]
)
def test_it_needs_an_access_token(api: ApiClient, method: str, path: str) -> None:
    assert error_code(api.send(method, path, {"totp": "123456"})) == "2001"


def test_a_secret_that_cannot_be_decrypted_gives_a_clear_503_and_recovery_codes_still_work(
    api: ApiClient, owner: User, tokens: TokenPair, phone: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    User.objects.filter(pk=owner.pk).update(totp_secret=Fernet(Fernet.generate_key()).encrypt(b"x").decode())
    shown = {"email": owner.email, "password": PASSWORD}
    with caplog.at_level(logging.ERROR):
        answers = [
            post(api, "verify", **shown, totp=phone.fresh_code()), switch_off(api, tokens, totp=phone.fresh_code())
        ]  # fmt: skip

    assert [(answer.status_code, error_code(answer)) for answer in answers] == [(503, "5008")] * 2
    assert {answer["Retry-After"] for answer in answers} == {"5"}
    assert all("use a recovery code" in answer.json()["error"]["message"] for answer in answers)
    lines = [record for record in caplog.records if "TOTP secret cannot be decrypted" in record.getMessage()]
    assert [record.__dict__["user_id"] for record in lines] == [str(owner.pk)] * 2
    assert not any(record.exc_info for record in caplog.records)
    assert failures_of(account(owner.email)) == failures_of(signed_in_user(owner.pk)) == 0
    assert post(api, "verify", **shown, recovery_code=phone.recovery_codes[0]).status_code == 200


def test_with_a_wrong_password_a_secret_that_cannot_be_decrypted_is_not_revealed(
    api: ApiClient, owner: User, phone: Phone
) -> None:
    User.objects.filter(pk=owner.pk).update(totp_secret="gone")

    assert (
        error_code(post(api, "verify", email=owner.email, password="Wrong-Horse-7", totp=phone.fresh_code())) == "2001"
    )

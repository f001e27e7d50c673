"""Automatic lockouts, on Redis, and what they stop and do not stop."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from accounts import lockouts
from accounts.lockouts import (
    FAILURES_EXPIRE_SECONDS,
    RULES,
    GuessAttempt,
    LockoutSubject,
    account,
    active_lockouts,
    lift,
    second_factor,
    signed_in_user,
    subject_of,
    this_address,
)
from accounts.models import User
from accounts.tests.conftest import Phone, failures_of, post, token_in, use, wrong
from accounts.tokens.issuing import TokenPair
from conftest import PASSWORD, ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.record import RequestRecord, current
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import TooManyAttempts
from testing.mail import Mailbox
from testing.parallel import in_parallel

EMAIL, NOBODY = "owner@example.org", "nobody@example.org"
OWNER = account(EMAIL)
FREE = RULES["account"].free_failures


def is_refused(*subjects: LockoutSubject) -> int:
    """Make an attempt; return for how many seconds it is refused, 0 if it is accepted."""
    try:
        GuessAttempt(*subjects)
    except TooManyAttempts as error:
        return int(error.headers["Retry-After"])
    return 0


def end_lockout(redis: Redis, subject: LockoutSubject) -> None:
    """Let the time of the lockout pass."""
    redis.hset(subject.key, "u", redis.time()[0])
    redis.zadd(keys.LOCKOUTS, {subject.text: redis.time()[0]})


@pytest.mark.parametrize(
    "subject", [OWNER, LockoutSubject("address", "192.0.2.1"), second_factor(EMAIL), signed_in_user("1")]
)
def test_an_attempt_after_the_free_failures_is_refused(subject: LockoutSubject) -> None:
    free = {"account": 10, "address": 20, "second-factor": 10, "signed-in": 10}[subject.kind]

    assert [is_refused(subject) for _ in range(free)] == [0] * free
    assert 59 <= is_refused(subject) <= 60
    assert failures_of(subject) == free


def test_each_further_lockout_is_twice_as_long_up_to_an_hour(empty_redis: Redis) -> None:
    for _ in range(FREE - 1):
        GuessAttempt(OWNER)

    waits = []
    for _ in range(9):
        assert is_refused(OWNER) == 0
        waits.append(is_refused(OWNER))
        end_lockout(empty_redis, OWNER)
    assert all(longest - 1 <= wait <= longest for wait, longest in zip(
        waits, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600], strict=True)
    )  # fmt: skip


def test_thousands_of_failures_do_not_break_the_doubling(empty_redis: Redis) -> None:
    empty_redis.hset(OWNER.key, "n", 100_000)

    assert is_refused(OWNER) == 0
    assert 3599 <= is_refused(OWNER) <= 3600


def test_a_refused_attempt_is_not_counted_and_does_not_extend_the_lockout(empty_redis: Redis) -> None:
    for _ in range(FREE):
        GuessAttempt(OWNER)
    until = empty_redis.hget(OWNER.key, "u")

    assert all(is_refused(OWNER) for _ in range(20))
    assert failures_of(OWNER) == FREE
    assert empty_redis.hget(OWNER.key, "u") == until


def test_an_attempt_that_one_subject_refuses_charges_none_of_the_others() -> None:
    address = LockoutSubject("address", "192.0.2.1")
    for _ in range(FREE):
        GuessAttempt(OWNER)

    assert is_refused(OWNER, address) > 0
    assert failures_of(address) == 0
    assert is_refused(address) == 0


def test_the_answer_names_the_longest_wait_of_all_subjects(empty_redis: Redis) -> None:
    other = account("other@example.org")
    now = empty_redis.time()[0]
    empty_redis.hset(OWNER.key, mapping={"n": 10, "u": now + 50})
    empty_redis.hset(other.key, mapping={"n": 10, "u": now + 500})

    assert 499 <= is_refused(OWNER, other) <= 500
    assert 499 <= is_refused(other, OWNER) <= 500


def test_a_success_forgets_the_failures_of_the_account_and_refunds_the_address() -> None:
    address = LockoutSubject("address", "192.0.2.1")
    for _ in range(5):
        GuessAttempt(OWNER, address)
    GuessAttempt(OWNER, address).forgive()

    assert (failures_of(OWNER), failures_of(address)) == (0, 5)


def test_an_attempt_that_was_no_guess_is_refunded() -> None:
    for _ in range(30):
        GuessAttempt(OWNER).refund()
    assert failures_of(OWNER) == 0

    GuessAttempt(OWNER)
    GuessAttempt(OWNER).refund()
    assert failures_of(OWNER) == 1


def test_the_last_free_attempt_locks_out_unless_it_is_forgiven_or_refunded(empty_redis: Redis) -> None:
    for _ in range(FREE - 1):
        GuessAttempt(OWNER)
    attempt = GuessAttempt(OWNER)
    assert is_refused(OWNER) > 0
    attempt.refund()
    assert active_lockouts() == []
    GuessAttempt(OWNER).forgive()

    assert active_lockouts() == []
    assert is_refused(OWNER) == 0
    assert failures_of(OWNER) == 1


def test_a_refund_after_the_lockout_was_lifted_changes_nothing() -> None:
    attempt = GuessAttempt(OWNER)
    lift(OWNER)
    attempt.refund()

    assert failures_of(OWNER) == 0


def test_an_attempt_without_subjects_charges_nothing(empty_redis: Redis) -> None:
    GuessAttempt().refund()

    assert empty_redis.keys() == []


@pytest.mark.parametrize("settle", [lambda attempt: None, GuessAttempt.refund, GuessAttempt.forgive])
def test_parallel_attempts_are_counted_exactly(settle: Callable[[GuessAttempt], Any]) -> None:
    def attempt(_: int) -> bool:
        try:
            settle(GuessAttempt(OWNER))
        except TooManyAttempts:
            return False
        return True

    let_through = in_parallel(40, attempt).count(True)

    if settle is GuessAttempt.refund or settle is GuessAttempt.forgive:
        assert failures_of(OWNER) == 0
        assert active_lockouts() == []
    else:
        assert let_through == failures_of(OWNER) == FREE


def test_every_key_expires(empty_redis: Redis) -> None:
    for _ in range(FREE):
        GuessAttempt(OWNER, second_factor(EMAIL), signed_in_user("1"), LockoutSubject("address", "192.0.2.1"))
    GuessAttempt(account(NOBODY))
    GuessAttempt(account(NOBODY)).refund()

    keys = empty_redis.keys()
    assert len(keys) == 6
    assert all(0 < empty_redis.ttl(key) <= FAILURES_EXPIRE_SECONDS for key in keys)


def test_failures_are_forgotten_a_day_after_the_last(empty_redis: Redis) -> None:
    GuessAttempt(OWNER)
    empty_redis.expire(OWNER.key, 10)
    GuessAttempt(OWNER)

    assert empty_redis.ttl(OWNER.key) > FAILURES_EXPIRE_SECONDS - 10


def test_the_keys_do_not_reveal_whose_failures_they_count(empty_redis: Redis) -> None:
    GuessAttempt(OWNER, LockoutSubject("address", "192.0.2.1"))

    assert b"owner" not in b"".join(empty_redis.keys())
    assert b"192" not in b"".join(empty_redis.keys())


def test_lockouts_in_force_are_listed_the_longest_first(empty_redis: Redis) -> None:
    address = LockoutSubject("address", "2001:db8::/64")
    for _ in range(RULES["address"].free_failures):
        GuessAttempt(address)
    for _ in range(FREE):
        GuessAttempt(OWNER)
    end_lockout(empty_redis, OWNER)
    GuessAttempt(OWNER)

    first, second = active_lockouts()
    assert (first.subject, first.failures) == (OWNER, FREE + 1)
    assert (second.subject, second.failures) == (address, 20)
    assert 118 <= first.until.timestamp() - time.time() <= 121
    end_lockout(empty_redis, OWNER)
    assert [lockout.subject for lockout in active_lockouts()] == [address]


def test_a_subject_can_be_read_from_its_text() -> None:
    for subject in (OWNER, LockoutSubject("address", "2001:db8::/64"), second_factor("a:b@example.org")):
        assert subject_of(subject.text) == subject


def test_lifting_ends_a_lockout_and_forgets_its_failures() -> None:
    for _ in range(FREE):
        GuessAttempt(OWNER)
    lift(OWNER)

    assert (active_lockouts(), failures_of(OWNER), is_refused(OWNER)) == ([], 0, 0)


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:aaaa::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
    ],
)
def test_an_ipv6_address_is_counted_by_its_network(address: str, bucket: str) -> None:
    noted = current.set(RequestRecord(client_address=address))
    try:
        assert this_address() == LockoutSubject("address", bucket)
    finally:
        current.reset(noted)


# What a lockout stops, over the API.


def verify(api: ApiClient, email: str = EMAIL, **shown: Any) -> Any:
    return post(api, "verify", email=email, **shown)


def lock_out(subject: LockoutSubject) -> None:
    for _ in range(RULES[subject.kind].free_failures):
        GuessAttempt(subject)


def test_a_locked_out_email_accepts_no_code_and_no_password_known_or_not(
    api: ApiClient, code: str, phone: Phone
) -> None:
    lock_out(OWNER)
    lock_out(account(NOBODY))
    answers = [verify(api, code=code), verify(api, password=PASSWORD, totp=phone.fresh_code())]
    answers += [post(api, "login", email=EMAIL, password=PASSWORD)]
    answers += [verify(api, NOBODY, code=code), post(api, "login", email=NOBODY, password="p")]

    for response in answers:
        assert (response.status_code, error_code(response)) == (429, "3003")
        assert 55 <= int(response["Retry-After"]) <= 60
        assert response.json()["error"]["details"] == {"retry_after": int(response["Retry-After"])}
        assert response.json()["error"]["message"] == "Too many failed attempts"


def test_links_tokens_and_password_resets_work_during_a_lockout(
    api: ApiClient, token: str, tokens: TokenPair, mailbox: Mailbox
) -> None:
    lock_out(OWNER)

    assert verify(api, token=token).status_code == 200
    assert api.send("get", "/users/me", token=tokens.access).status_code == 200
    assert use(api, tokens.refresh) == 200
    assert post(api, "login", email=EMAIL).status_code == 200
    assert verify(api, token=token_in(mailbox, EMAIL, 2)).status_code == 200
    assert post(api, "password/reset", email=EMAIL).status_code == 200


def test_a_link_with_a_second_factor_is_not_locked_out_with_the_account(
    api: ApiClient, token: str, phone: Phone
) -> None:
    lock_out(OWNER)

    assert verify(api, token=token, totp=phone.fresh_code()).status_code == 200


def test_guesses_at_totp_after_links_are_locked_out_and_recovery_codes_still_work(
    api: ApiClient, token: str, phone: Phone, mailbox: Mailbox
) -> None:
    totp = phone.fresh_code()
    for _ in range(5):
        assert error_code(verify(api, token=token, totp=wrong(totp))) == "2007"
    post(api, "login", email=EMAIL)
    second = token_in(mailbox, EMAIL, 2)
    for _ in range(5):
        assert error_code(verify(api, token=second, totp=wrong(totp))) == "2007"
    post(api, "login", email=EMAIL)
    third = token_in(mailbox, EMAIL, 3)

    assert error_code(verify(api, token=third, totp=totp)) == "3003"
    assert failures_of(OWNER) == 0
    assert failures_of(second_factor(EMAIL)) == FREE
    assert verify(api, token=third, recovery_code=phone.recovery_codes[0]).status_code == 200


@pytest.mark.parametrize("kind", ["code", "token"])
def test_failures_of_codes_and_passwords_add_up_and_a_login_forgets_them(
    api: ApiClient, code: str, token: str, phone: Phone, kind: str
) -> None:
    first = {"code": code} if kind == "code" else {"token": token}
    verify(api, code=wrong(code))
    verify(api, password="Wrong-Horse-7", totp="000000")
    post(api, "login", email=EMAIL, password="Wrong-Horse-7")
    assert failures_of(OWNER) == 3

    assert verify(api, **first, totp=phone.fresh_code()).status_code == 200
    assert failures_of(OWNER) == failures_of(second_factor(EMAIL)) == 0


def test_a_right_password_without_the_second_factor_forgives_no_failures(api: ApiClient, phone: Phone) -> None:
    for _ in range(3):
        verify(api, password=PASSWORD, totp=wrong(phone.fresh_code()))
    post(api, "login", email=EMAIL, password=PASSWORD)

    assert failures_of(OWNER) == 3


def test_an_expired_code_or_a_missing_factor_is_no_failure(api: ApiClient, code: str, phone: Phone) -> None:
    assert error_code(verify(api, code=code)) == "2001"
    assert error_code(verify(api, NOBODY, code=code)) == "2006"

    assert failures_of(OWNER) == failures_of(account(NOBODY)) == 0
    assert failures_of(LockoutSubject("address", "127.0.0.1")) == 0


def test_an_address_that_guesses_at_many_accounts_is_locked_out_of_codes_but_not_of_links(
    api: ApiClient, code: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        lockouts.RULES, "address", lockouts.Rule(free_failures=3, first_seconds=60, longest_seconds=3600)
    )
    for number in range(3):
        email = f"nobody-{number}@example.org"
        post(api, "login", email=email)
        assert error_code(verify(api, email, code=code)) == "2007"

    assert error_code(verify(api, code=code)) == "3003"
    assert verify(ApiClient(HTTP_HOST="testserver", REMOTE_ADDR="192.0.2.9"), code=code).status_code == 200
    assert error_code(verify(api, token="nothing")) == "2006"


def test_the_network_of_an_ipv6_address_is_locked_out_as_one(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        lockouts.RULES, "address", lockouts.Rule(free_failures=2, first_seconds=60, longest_seconds=3600)
    )

    def guess_from(address: str) -> str:
        return error_code(verify(ApiClient(HTTP_HOST="testserver", REMOTE_ADDR=address), code=wrong(code)))

    assert [guess_from("2001:db8:0:1::1"), guess_from("2001:db8:0:1::2")] == ["2007", "2007"]
    assert guess_from("2001:db8:0:1:ffff::3") == "3003"
    assert guess_from("2001:db8:0:2::1") == "2007"


def test_the_start_of_a_lockout_and_what_it_blocked_are_recorded(api: ApiClient, owner: User, db: None) -> None:
    for _ in range(FREE - 1):
        GuessAttempt(OWNER)
    post(api, "login", email=EMAIL, password="Wrong-Horse-7")
    post(api, "login", email=EMAIL, password="Wrong-Horse-7")

    kinds = AuditEvent.objects.order_by("created_at").values_list("type", "outcome")
    assert list(kinds) == [("lockout.started", "blocked"), ("login.failed", "failure"), ("login.blocked", "blocked")]
    assert EMAIL not in repr(list(AuditEvent.objects.values()))
    owner.refresh_from_db()
    assert owner.login_attempts == 1


def test_a_lockout_of_an_account_is_recorded_for_its_user_and_one_of_an_unknown_email_without_it(
    api: ApiClient, owner: User, db: None
) -> None:
    for email in (EMAIL, NOBODY):
        for _ in range(FREE - 1):
            GuessAttempt(account(email))
        post(api, "login", email=email, password="Wrong-Horse-7")

    events = AuditEvent.objects.filter(type="lockout.started").order_by("created_at")
    assert list(events.values_list("subject", flat=True)) == [str(owner.pk), account(NOBODY).key]
    assert NOBODY not in repr(list(AuditEvent.objects.values()))

"""Recovery codes: ten, shown once, stored as hashes; each works once, for its account only."""

import re
from typing import Any

import pytest

from accounts.factors.hardware_wallet import WALLET
from accounts.factors.recovery import code_hash, ensure_recovery_codes, new_code, use_recovery_code
from accounts.factors.table import leave
from accounts.factors.totp import TOTP
from accounts.models import RecoveryCode, User
from accounts.tests.conftest import Clock, Phone, Wallet, notices_to, phone_of, post
from conftest import PASSWORD, ApiClient
from lucid_gateway.audit.models import AuditEvent
from testing.mail import Mailbox
from testing.parallel import in_parallel


def log_in(api: ApiClient, recovery_code: str) -> Any:
    return post(api, "verify", email="owner@example.org", password=PASSWORD, recovery_code=recovery_code)


def test_a_code_has_sixteen_characters_that_are_hard_to_misread() -> None:
    codes = {new_code() for _ in range(200)}

    assert len(codes) == 200
    assert all(re.fullmatch("([a-hjkmnp-z2-9]{4}-){3}[a-hjkmnp-z2-9]{4}", code) for code in codes)
    assert len(set("".join(codes)) - {"-"}) == 31  # 31^16: 79 bits


def test_only_hashes_are_stored(owner: User) -> None:
    codes = ensure_recovery_codes(owner)
    stored = repr(list(RecoveryCode.objects.values()))

    assert len(codes) == RecoveryCode.objects.count() == 10
    for code in codes:
        assert code not in stored
        assert code.replace("-", "") not in stored


def test_the_hashes_of_one_code_differ_from_account_to_account(owner: User, node_operator: User) -> None:
    (code, *_) = ensure_recovery_codes(owner)
    ensure_recovery_codes(node_operator)

    assert code_hash(owner, code) != code_hash(node_operator, code)
    assert not use_recovery_code(node_operator, code)
    assert use_recovery_code(owner, code)


def test_each_code_works_once(api: ApiClient, phone: Phone) -> None:
    for code in phone.recovery_codes[:2]:
        assert [log_in(api, code).status_code for _ in range(2)] == [200, 401]


@pytest.mark.parametrize("typed", ["{}", " {} ", "{} "])
def test_case_spaces_and_hyphens_do_not_matter(owner: User, typed: str) -> None:
    codes = ensure_recovery_codes(owner)

    for form in (codes[0].upper(), codes[1].replace("-", ""), codes[2].replace("-", " ")):
        assert use_recovery_code(owner, typed.format(form))


OTHERS = ["", "-", "abcd-efgh-jkmn-pqrs", "\x00", "\ud7ff" * 16]


def test_an_unknown_code_is_refused(owner: User) -> None:
    ensure_recovery_codes(owner)

    assert [code for code in OTHERS if use_recovery_code(owner, code)] == []


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_uses_one_succeeds(owner: User) -> None:
    (code, *_) = ensure_recovery_codes(owner)

    assert in_parallel(6, lambda _: use_recovery_code(owner, code)).count(True) == 1


def test_the_owner_is_told_of_each_use_and_how_many_are_left(owner: User, mailbox: Mailbox) -> None:
    codes = ensure_recovery_codes(owner)
    for code in codes[:2]:
        use_recovery_code(owner, code)

    assert "8 of 10 are left" in notices_to(mailbox, owner.email)
    events = AuditEvent.objects.filter(type="recovery_code.used", subject=str(owner.pk)).order_by("created_at")
    assert [event.details["left"] for event in events] == [9, 8]


def test_a_further_second_factor_shows_no_new_codes(wallet: Wallet, owner: User, clock: Clock) -> None:
    assert len(wallet.recovery_codes) == 10
    assert phone_of(owner, clock).recovery_codes == []

    assert use_recovery_code(owner, wallet.recovery_codes[0])


def test_after_all_codes_are_used_the_next_second_factor_shows_new_ones(
    wallet: Wallet, owner: User, clock: Clock
) -> None:
    for code in wallet.recovery_codes:
        assert use_recovery_code(owner, code)

    assert len(phone_of(owner, clock).recovery_codes) == 10
    assert owner.recovery_codes.count() == 10


def test_codes_are_deleted_with_the_last_second_factor(owner: User, phone: Phone, wallet: Wallet) -> None:
    leave(TOTP, owner, recovery_code=phone.recovery_codes[0])
    assert owner.recovery_codes.filter(used_at=None).count() == 9

    leave(WALLET, owner, recovery_code=phone.recovery_codes[1])
    assert owner.recovery_codes.count() == 0

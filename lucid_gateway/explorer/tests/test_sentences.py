"""Each reason has a sentence in plain English and a remedy, or the words why nothing needs to be done."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.utils import timezone
from django.utils.html import strip_tags

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.users.locks import lock_user, unlock_user
from lucid_gateway.api.permissions import NEEDS_SECOND_FACTOR
from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.explaining import explain
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.sentences import WORDS
from lucid_gateway.explorer.tests.stage import kept
from lucid_gateway.policy.reasons import REASONS
from ratelimit.models import AddressRule, LimitRule
from ratelimit.ruling import set_address_rule, set_limit_rule
from sessions_api.lifecycle import create_session

LIMITS = {"tier": "authenticated", "limit": 1000, "burst": 2000, "remaining": 0, "burst_remaining": 0,
          "resets_at": 1_800_000_000, "refused": 212, "daily_quota": 5000, "concurrent_requests": 7}  # fmt: skip
ATTEMPTS = [
    {
        "instance": f"http://{name}:1",
        "connect_ms": 1,
        "send_ms": 1,
        "first_byte_ms": None,
        "outcome": "instance_timeout",
    }
    for name in ("one", "two")
]
SPARSE: dict[str, Any] = {"details": {}, "address": ""}
RICH = {
    "details": {"limits": LIMITS, "attempts": ATTEMPTS,
                "facts": {"permission": "chain:write", "limit_bytes": 1024, "content_length": "2048", "retry_after": 9,
                          "message": "The reason why", "parser": "InvalidRequestLine", "network": "198.51.100.0/24",
                          "fields": [["name", "required"]], "until": "2026-11-25T14:03:07+00:00"}},
    "cluster": "blockchain_core", "instance": "http://two:1", "role": "user", "route": "api/v1/chain/info",
}  # fmt: skip


def said(row: KeptRequest) -> str:
    """Return the headline and the sentences as text."""
    found = explain(Case(row))
    return unescape(strip_tags(f"{found.headline} {found.says}")).strip()


def test_the_table_has_exactly_the_reasons_of_the_policy() -> None:
    assert set(WORDS) == set(REASONS)


def test_each_reason_has_a_remedy_or_says_why_nothing_needs_to_be_done() -> None:
    assert [name for name, words in WORDS.items() if not words.remedies and not words.otherwise] == []


@pytest.mark.parametrize("values", [SPARSE, RICH], ids=["sparse", "rich"])
def test_each_reason_is_explained_in_whole_sentences(owner: User, values: dict[str, Any]) -> None:
    for name in REASONS:
        text = said(kept(reason=name, status=400, user_id=str(owner.pk) if values is RICH else "", **values))
        assert re.fullmatch(r"[A-Zh].*[.”]", text), (name, text)
        assert not re.search(r"[{}]|None|  |\.\.| ,| \.", text), (name, text)


def test_a_used_up_limit_is_explained_with_its_numbers(owner: User) -> None:
    key, _ = create_api_key(owner, name="indexer-prod", permissions=[])
    row = kept(reason="tier_exhausted", status=429, credential_kind="api_key", credential_id=key.key_id,
               user_id=str(owner.pk), details={"limits": LIMITS})  # fmt: skip

    text = said(row)

    assert text.startswith(
        "Refused: the limit of the tier authenticated was used up."
        " The API key indexer-prod may send 1,000 requests a minute and 2,000 beyond that. Both were used up at "
    )
    assert "This was refusal 212 in this minute. The next request passes at 2027-01-15 08:00 UTC." in text
    first, *_ = explain(Case(row)).buttons
    assert first.label == "Raise the limit of this key…"
    assert first.url.endswith(f"?tier=authenticated&subject=key%3A{key.key_id}")


def at(offset: timedelta) -> int:
    return int((timezone.now() + offset).timestamp())


@pytest.mark.parametrize(
    ("offset", "says"),
    [(timedelta(hours=1), "The next request passes at "), (-timedelta(hours=1), "Requests have passed again since ")],
    ids=["to come", "over"],
)
def test_a_time_that_is_over_is_in_the_past_tense(owner: User, offset: timedelta, says: str) -> None:
    limits = {"limits": LIMITS | {"resets_at": at(offset)}}
    assert says in said(kept(reason="tier_exhausted", status=429, user_id=str(owner.pk), details=limits))

    retry = {"facts": {"retry_after": int(offset.total_seconds())}, "limits": LIMITS}
    assert says in said(kept(reason="quota_exhausted", status=429, user_id=str(owner.pk), details=retry))
    guesses = said(kept(reason="too_many_attempts", status=429, user_id=str(owner.pk), details=retry))
    assert ("were refused until" if says.startswith("Requests") else "are refused until") in guesses


def test_a_rule_that_has_ended_is_in_the_past_tense(admin: User) -> None:
    rule = set_address_rule(network="198.51.100.0/24", kind="blocked", reason="a flood", by=admin,
                            expires_at=timezone.now() + timedelta(hours=1))  # fmt: skip
    row = kept(reason="address_blocked", status=429, details={"facts": {"network": rule.network}})
    assert "which lasts until" in said(row)

    AddressRule.objects.update(expires_at=timezone.now() - timedelta(hours=1))
    assert "which lasted until" in said(row)


def test_a_breaker_says_when_the_next_attempt_is_due(db: None) -> None:
    facts = {"facts": {"retry_after": 600}}
    assert "Its next attempt is due at " in said(kept(reason="breaker_open", status=503, details=facts))


def test_a_breaker_names_the_failure_that_opened_it(db: None) -> None:
    of_cluster = {"cluster": "blockchain_core", "status": 502}
    kept(timedelta(minutes=2), reason="instance_timeout", instance="http://one:1", **of_cluster)
    kept(timedelta(minutes=1), reason="instance_unreachable", instance="http://two:1", **of_cluster)
    row = kept(reason="breaker_open", status=503, cluster="blockchain_core")

    assert re.search(
        r"The last one was http://two:1 at .*: the instance refused the connection\. The gateway", said(row)
    )


def test_a_rule_for_one_address_names_it_once(admin: User) -> None:
    set_address_rule(network="198.51.100.7", kind="deny", reason="a flood", by=admin)
    row = kept(reason="address_denied", status=403, details={"facts": {"network": "198.51.100.7/32"}})

    assert said(row).startswith("Refused: an operator has denied 198.51.100.7. admin@example.org set this rule")


def test_a_chunk_with_a_wrong_hash_is_named_as_such_and_leads_to_its_session(owner: User) -> None:
    session = create_session(owner.pk, name="a session")
    row = kept(reason="invalid_data", status=422, user_id=str(owner.pk), path=f"/api/v1/sessions/{session.pk}/chunks",
               details={"facts": {"fields": [["X-Chunk-SHA256", "invalid"]]}})  # fmt: skip

    assert "The problem: X-Chunk-SHA256 is not the hash of the body." in said(row)
    first, *_ = explain(Case(row)).buttons
    assert (first.label, first.url) == ("Open the session", f"/admin/sessions_api/session/{session.pk}/change/")


def test_one_is_not_a_plural(owner: User) -> None:
    limits = {"limits": LIMITS | {"limit": 1, "daily_quota": 1, "concurrent_requests": 1}}

    texts = [
        said(kept(reason=reason, status=429, user_id=str(owner.pk), details=limits))
        for reason in ("tier_exhausted", "quota_exhausted", "too_many_concurrent")
    ]

    assert "may send 1 request a minute" in texts[0]
    assert "may send 1 request a day (UTC)" in texts[1]
    assert "may have 1 request in progress" in texts[2]


def test_a_limit_that_an_operator_set_leads_to_its_rule(owner: User) -> None:
    set_limit_rule(tier="authenticated", subject=f"user:{owner.pk}", limit=5, by="manage.py")
    limits = LIMITS | {"rule": f"user:{owner.pk}"}
    row = kept(reason="tier_exhausted", status=429, user_id=str(owner.pk), details={"limits": limits})

    found = explain(Case(row))

    assert "The numbers come from an operator's rule." in said(row)
    assert str(LimitRule.objects.get().pk) in found.buttons[0].url


def test_without_a_credential_the_address_is_limited(owner: User) -> None:
    row = kept(
        reason="tier_exhausted", status=429, user_id=str(owner.pk), details={"limits": LIMITS | {"tier": "public"}}
    )

    assert "The address 198.51.100.7 may send 1,000 requests a minute" in said(row)
    assert [button.label for button in explain(Case(row)).buttons][:2] == [
        "Raise the limit for everyone…", "Exempt this address…"
    ]  # fmt: skip


def test_a_locked_account_names_who_locked_it_and_why(owner: User, admin: User) -> None:
    lock_user(owner, reason="stolen laptop", by=admin)
    facts = {
        "locked_by": owner.locked_by,
        "lock_reason": owner.lock_reason,
        "locked_until": "9999-12-31T00:00:00+00:00",
    }
    row = kept(reason="account_locked", status=401, user_id=str(owner.pk), details={"facts": facts})

    assert re.search(r"admin@example.org locked it at .*, until somebody unlocks it: “stolen laptop”\.$", said(row))
    assert f'href="/admin/accounts/user/{admin.pk}/change/"' in explain(Case(row)).says
    assert explain(Case(row, by=admin)).buttons[0].label == "Unlock the account…"

    unlock_user(owner, by=admin)
    assert said(row).endswith("It has been unlocked since.")


def test_staff_without_a_second_factor_learn_what_to_do(admin: User) -> None:
    facts = {"permission": "admin:read", "needs": "second_factor", "message": NEEDS_SECOND_FACTOR}
    row = kept(reason="permission_missing", status=403, user_id=str(admin.pk), role="admin", details={"facts": facts})

    assert "admin@example.org is staff but had no second factor." in said(row)
    assert "add one at /admin/second-factor/" in said(row)
    assert "does not include it" not in said(row)


def test_a_denied_network_names_its_rule(owner: User, admin: User) -> None:
    set_address_rule(network="198.51.100.0/24", kind="deny", reason="a flood", expires_at=None, by=admin)
    row = kept(reason="address_denied", status=403, details={"facts": {"network": "198.51.100.0/24"}})

    assert said(row).endswith("admin@example.org set this rule, which lasts until somebody lifts it: “a flood”.")

    AddressRule.objects.all().delete()
    assert said(row).endswith("The rule has been lifted since, so the address is served again.")


@pytest.mark.parametrize(
    ("key", "revoked", "says"),
    [
        ("known", False, "The key leaked of owner@example.org exists, but the secret was wrong."),
        ("known", True, "The key leaked of owner@example.org was revoked at "),
        ("abcdefghijkl", False, "There is no key with the id abcdefghijkl."),
        ("", False, "What the client sent does not have the form of an API key."),
    ],
)
def test_a_refused_api_key_says_what_is_wrong_with_it(owner: User, key: str, revoked: bool, says: str) -> None:
    row, _ = create_api_key(owner, name="leaked", permissions=[])
    if revoked:
        row.revoked_at = row.created_at
        row.save()
    key_id = row.key_id if key == "known" else key

    assert says in said(kept(reason="api_key_unknown", status=401, credential_kind="api_key", credential_id=key_id))


def test_a_request_says_how_often_its_address_was_refused_like_this(db: None) -> None:
    assert "It is the only such request of 198.51.100.7" in said(kept(reason="signature_invalid", status=401))
    kept(reason="token_expired", status=401)

    assert "It is one of 2 such requests of 198.51.100.7" in said(kept(reason="signature_invalid", status=401))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"status": 200, "duration_ms": 6.1}, "Answered: 200 in 6.1 ms."),
        ({"status": 404, "upstream_status": 404, "instance": "http://one:1"}, "http://one:1 answered 404."),
        ({"status": 429}, "Answered: 429."),
    ],
)
def test_a_request_without_a_reason_is_explained_too(db: None, values: dict[str, Any], says: str) -> None:
    assert said(kept(**values)).startswith(says)


def test_a_reason_of_another_release_is_named(db: None) -> None:
    assert said(kept(reason="no_longer_known", status=400)).startswith("Refused: no longer known.")


def test_texts_of_clients_are_escaped(owner: User) -> None:
    script = "<script>alert(1)</script>"
    key, _ = create_api_key(owner, name=script, permissions=[])
    for name in REASONS:
        row = kept(reason=name, status=400, path=script, instance=script, cluster=script, credential_kind="api_key",
                   credential_id=key.key_id, details={"facts": {"message": script, "permission": script}})  # fmt: skip
        found = explain(Case(row))
        assert "<script" not in f"{found.headline} {found.says}", name

"""The operator page of one request."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags
from pytest_django import Settings

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.operators import browser, signed_in
from lucid_gateway.explorer import pages
from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.decided import lines
from lucid_gateway.explorer.rows import row_of
from lucid_gateway.explorer.tests.stage import finished, kept
from lucid_gateway.kernel.record import AttemptRecord, Claim, Outcome
from lucid_gateway.policy.errors import InsufficientPermissions, NotFound, UpstreamTimeout
from lucid_gateway.policy.reasons import Step
from ratelimit.ruling import set_address_rule, set_limit_rule

MINUTE = timedelta(minutes=1)
CREDENTIAL = (Step.IDENTITY, Step.LOCK, Step.REVOCATION, Step.EPOCH)


@pytest.fixture
def client(admin: User) -> Client:
    return signed_in(admin)


def text_of(response: Any) -> str:
    """Return the text of the page without its gaps."""
    return " ".join(strip_tags(response.content.decode()).split())


def test_the_page_explains_the_request(client: Client, owner: User) -> None:
    request = finished(InsufficientPermissions(details={"permission": "chain:write"}))
    request.record.claim = Claim("token", "jti", str(owner.pk), "user")
    row_of(request).save()

    text = text_of(client.get("/admin/requests/request-1/"))

    assert "Refused: the permission chain:write is missing. The role user of owner@example.org does not" in text
    assert "403 LUCID_ERR_2004" in text
    assert "Only a super admin may change the role: ask one." in text
    assert "What would happen now?" in text
    assert "198.51.100.0/24" in text


def test_the_page_links_to_everything_that_the_request_is_about(client: Client, owner: User) -> None:
    key, _ = create_api_key(owner, name="indexer-prod", permissions=[])
    rule = set_address_rule(network="198.51.100.0/24", kind="deny", reason="a flood", by=owner)
    limit = set_limit_rule(tier="authenticated", subject=f"key:{key.key_id}", limit=5, by="manage.py")
    kept(
        request_id="one", status=403, error_code="LUCID_ERR_3004", reason="address_denied", user_id=str(owner.pk),
        credential_kind="api_key", credential_id=key.key_id, cluster="blockchain_core", instance="http://one:1",
        details={"facts": {"network": rule.network}, "limits": {"tier": "authenticated", "rule": limit.subject}},
    )  # fmt: skip

    html = client.get("/admin/requests/one/").content.decode()

    for link in (
        f"/admin/accounts/user/{owner.pk}/change/", f"/admin/accounts/apikey/{key.key_id}/change/",
        "/admin/requests/?address=198.51.100.7", f"/admin/ratelimit/addressrule/{rule.pk}/change/",
        f"/admin/ratelimit/limitrule/{limit.pk}/change/", "/admin/proxy/maintenance/#blockchain_core",
        "/admin/requests/?instance=http%3A%2F%2Fone%3A1", "?error_code=LUCID_ERR_3004", "?reason=address_denied",
    ):  # fmt: skip
        assert f'href="{link}' in html or f'{link}"' in html, link
    assert "<dt>Status</dt>" in html


def outcomes(row: Any) -> list[tuple[str, str]]:
    return [(line.name, line.mark) for line in lines(Case(row))]


def test_the_steps_are_in_order_and_say_what_was_not_asked(db: None) -> None:
    request = finished(claim=Claim("token", "jti", "user"))
    request.record.passed(Step.PATH)
    request.record.route = "api/v1/chain/blocks"
    request.record.passed(Step.ROUTE)
    request.record.passed(*CREDENTIAL)
    request.record.refused(InsufficientPermissions())

    assert outcomes(row_of(request)) == [
        ("Address", "✓"), ("Path", "✓"), ("Route", "✓"), ("Identity", "✓"), ("Lock, revocation, epoch", "✓"),
        ("Permission", "✕"), ("Limit", "–"), ("Cluster", "–"),
    ]  # fmt: skip


def test_an_endpoint_of_the_gateway_itself_asks_no_cluster(db: None) -> None:
    request = finished()
    request.record.route = "api/v1/meta/info"
    request.record.passed(Step.PATH, Step.ROUTE, Step.RATE_LIMIT, Step.ANSWER)

    names = dict(outcomes(row_of(request)))

    assert "Cluster" not in names
    assert (names["Identity"], names["Limit"], names["Answer"]) == ("–", "✓", "✓")


def test_each_attempt_at_an_instance_is_shown_with_its_times(db: None) -> None:
    request = finished()
    request.record.cluster = "blockchain_core"
    request.record.attempts.append(AttemptRecord("http://one:1", connect_ms=0.4, outcome="instance_unreachable"))
    request.record.ended("instance_unreachable", Outcome.FAILED)
    request.record.attempts.append(
        AttemptRecord("http://two:1", connect_ms=0.3, send_ms=0.1, first_byte_ms=1250.0, outcome="instance_timeout")
    )
    request.record.refused(UpstreamTimeout())

    line = next(line for line in lines(Case(row_of(request))) if line.name == "Instance")

    assert line.mark == "✕"
    assert strip_tags(str(line.said).replace("<br>", "\n")).splitlines() == [
        "http://one:1 · the instance refused the connection · connected 0.4 ms",
        "http://two:1 · the instance did not answer in time · connected 0.3 ms · sent 0.1 ms · first byte 1.2 s",
    ]


@pytest.mark.parametrize("reason", ["quota_exhausted", "too_many_concurrent"])
def test_a_refusal_by_the_quota_does_not_say_that_the_limit_was_used_up(db: None, reason: str) -> None:
    limits = {"tier": "authenticated", "limit": 1000, "burst": 2000, "remaining": 0, "burst_remaining": 0}
    row = kept(reason=reason, status=429, details={"limits": limits, "steps": [
        {"step": "rate_limit", "outcome": "passed", "reason": None, "ms": 1}]})  # fmt: skip

    (line,) = [line for line in lines(Case(row)) if line.name == "Limit"]

    assert strip_tags(str(line.said)) == "authenticated: not used up"


def test_a_limit_in_shadow_mode_is_a_warning(db: None) -> None:
    request = finished()
    request.record.ended("tier_exhausted", Outcome.OBSERVED)

    (line,) = [line for line in lines(Case(row_of(request))) if line.name == "Limit"]

    assert (line.mark, line.outcome) == ("!", "would not have passed")


def test_requests_of_the_same_caller_are_shown_around_it(client: Client, owner: User) -> None:
    kept(request_id="this-one", user_id=str(owner.pk), status=404, reason="not_found")
    kept(2 * MINUTE, path="/shortly-before", user_id=str(owner.pk))
    kept(-MINUTE, path="/shortly-after", user_id=str(owner.pk))
    kept(7 * MINUTE, path="/long-before", user_id=str(owner.pk))
    kept(MINUTE, path="/of-another")

    found = re.findall(r"/(?:shortly|long|of)-\w+", text_of(client.get("/admin/requests/this-one/")))

    assert found == ["/shortly-after", "/shortly-before"]


def test_the_page_is_also_json(client: Client, db: None) -> None:
    row_of(finished(NotFound())).save()

    found = client.get("/admin/requests/request-1/", {"format": "json"}).json()

    assert (found["request_id"], found["status"], found["steps"][-1]["reason"]) == ("request-1", 404, "not_found")


def test_of_several_requests_with_an_id_each_has_its_page(client: Client, db: None) -> None:
    old = kept(MINUTE, request_id="twice", path="/old")
    kept(request_id="twice", path="/new")

    assert "GET /new" in text_of(client.get("/admin/requests/twice/"))
    assert "GET /old" in text_of(client.get("/admin/requests/twice/", {"row": str(old.pk)}))


def test_a_request_that_is_not_kept_says_why_it_may_be_missing(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ENV = django_settings.ENV.model_copy(update={"EXPLORER_KEEP_HOURS": 5, "EXPLORER_SAMPLE_PERCENT": 2.5})
    monkeypatch.setattr(pages, "left_out", lambda: [(1234, "a gateway keeps at most 200 a second")])

    response = client.get("/admin/requests/unknown-one/")
    text = text_of(response)

    assert response.status_code == 404
    for words in ("unknown-one", "older than 5 hours", "2.5 %", "1,234 because a gateway keeps at most 200 a second"):
        assert words in text


def test_the_number_of_queries_does_not_depend_on_the_rows(client: Client, owner: User) -> None:
    found = []
    for rows in (2, 40):
        for number in range(rows):
            kept(number * MINUTE / 10, request_id="one", user_id=str(owner.pk), status=401, reason="token_revoked")
        client.get("/admin/requests/one/")
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/admin/requests/one/").status_code == 200
        found.append(len(queries))

    assert found[0] == found[1]


def test_only_staff_may_read_it(owner: User, super_admin: User) -> None:
    kept(request_id="one")

    assert signed_in(super_admin).get("/admin/requests/one/").status_code == 200
    for visitor in (browser(), signed_in(owner)):
        assert visitor.get("/admin/requests/one/").status_code == 302

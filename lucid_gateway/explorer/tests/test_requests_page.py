"""The operator page that lists and searches requests."""

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.operators import browser, signed_in
from lucid_gateway.explorer import pages, searching
from lucid_gateway.explorer.tests.stage import kept
from lucid_gateway.figures.models import Sample, columns

MINUTE = timedelta(minutes=1)
LIST = "/admin/requests/"


@pytest.fixture
def client(admin: User) -> Client:
    return signed_in(admin)


def text_of(response: Any) -> str:
    return " ".join(strip_tags(response.content.decode()).split())


def paths(response: Any) -> list[str]:
    """Return the paths of the rows."""
    return re.findall(r'title="GET (/[^"]*)"', response.content.decode())


def test_requests_are_listed_newest_first_with_names(client: Client, owner: User) -> None:
    key, _ = create_api_key(owner, name="indexer-prod", permissions=[])
    kept(MINUTE, path="/by-user", user_id=str(owner.pk), credential_kind="token", status=404, reason="not_found")
    kept(path="/by-key", credential_kind="api_key", credential_id=key.key_id, status=429, reason="tier_exhausted")

    response = client.get(LIST)

    assert paths(response) == ["/by-key", "/by-user"]
    text = text_of(response)
    for words in ("indexer-prod", "owner@example.org", "tier exhausted", "not found", "198.51.100.7"):
        assert words in text


def test_an_empty_list_says_so(client: Client) -> None:
    assert "No request was kept in the last 24 hours." in text_of(client.get(LIST))


def test_a_search_leads_to_an_address_with_its_filters(client: Client, owner: User) -> None:
    response = client.post(LIST, {"q": "owner@example.org", "status": "4xx", "method": ""})

    assert response.status_code == 302
    assert response["Location"] == f"{LIST}?status=4xx&user={owner.pk}"  # no email in an address
    assert "User: owner@example.org" in text_of(client.get(response["Location"]))


def test_a_search_for_an_id_leads_to_the_request(client: Client, db: None) -> None:
    kept(request_id="the-one-i-want")

    assert client.post(LIST, {"q": "the-one-i-want"})["Location"] == f"{LIST}the-one-i-want/"


def test_filters_are_chips_that_can_be_removed(client: Client, db: None) -> None:
    kept(path="/wanted", status=429)
    kept(path="/other", status=404)

    response = client.get(LIST, {"status": "429", "since": "1h"})

    assert paths(response) == ["/wanted"]
    content = response.content.decode()
    assert 'href="?since=1h" title="Remove this filter"' in content
    assert 'href="?status=429" title="Remove this filter"' in content


def test_older_requests_are_on_the_next_page(client: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROWS_A_PAGE", 2)
    for number in range(3):
        kept(number * MINUTE, path=f"/{number}")

    first = client.get(LIST)
    older = re.search(r'href="(\?before=[^"]*)"', first.content.decode())
    assert older is not None

    assert paths(first) == ["/0", "/1"]
    assert paths(client.get(LIST + older[1])) == ["/2"]


def test_a_search_that_reaches_only_the_newest_rows_says_how_far(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "EXAMINED", 3)
    for number in range(5):
        kept(number * MINUTE, status=404)

    text = text_of(client.get(LIST, {"status": "404", "method": "PUT"}))

    assert "None of the newest requests matches." in text
    assert "Examined back to" in text
    assert "Search older requests" in text


def test_a_text_that_is_not_understood_is_explained(client: Client, db: None) -> None:
    response = client.post(LIST, {"status": "many"})

    assert response.status_code == 200
    assert "Expected a status such as 429, or a class such as 4xx." in text_of(response)


def test_a_whole_api_key_is_refused_and_not_shown_again(client: Client, owner: User) -> None:
    _, text = create_api_key(owner, name="key", permissions=[])

    response = client.post(LIST, {"q": text})

    assert response.status_code == 400
    assert "This is a secret and was not used." in text_of(response)
    assert text[16:] not in response.content.decode()


def test_a_whole_api_key_in_the_address_is_cut_to_its_prefix(client: Client, owner: User) -> None:
    key, text = create_api_key(owner, name="key", permissions=[])

    response = client.get(LIST, {"q": text})

    assert response["Location"] == f"{LIST}?q=lk_{key.key_id}"
    assert text[16:] not in client.get(response["Location"]).content.decode()


def test_a_name_of_several_keys_offers_them(client: Client, owner: User) -> None:
    ids = [create_api_key(owner, name="twins", permissions=[])[0].key_id for _ in range(2)]

    content = client.get(LIST, {"key": "twins"}).content.decode()

    assert all(f'href="?key={key_id}"' in content for key_id in ids)


def test_what_was_left_out_is_counted(client: Client, db: None) -> None:
    now = int(time.time()) // 10 * 10
    counts = columns({"explorer_left_out": {"caller_cap": 1200, "database": 3}})
    for seconds in (10, 60, 600, 3600):
        start = now // seconds * seconds
        Sample.objects.create(sample_id=f"one-{seconds}", gateway="one", seconds=seconds, start=start, **counts)

    text = text_of(client.get(LIST))

    assert "1,200 because of one address or user, a gateway keeps at most 20 a second" in text
    assert "3 because the database was unavailable" in text


def test_the_number_of_queries_does_not_depend_on_the_rows(client: Client, owner: User) -> None:
    found = []
    for rows in (2, 40):
        for number in range(rows):
            key, _ = create_api_key(owner, name=f"key {rows} {number}", permissions=[])
            kept(number * MINUTE, credential_kind="api_key", credential_id=key.key_id, user_id=str(owner.pk))
        client.get(LIST)
        with CaptureQueriesContext(connection) as queries:
            assert len(paths(client.get(LIST))) >= rows
        found.append(len(queries))

    assert found[0] == found[1]


def test_only_staff_may_search(owner: User) -> None:
    for visitor in (browser(), signed_in(owner)):
        assert visitor.get(LIST).status_code == 302
        assert visitor.post(LIST, {"q": "x"}).status_code in (302, 403)


def test_an_outcome_is_a_filter_with_words(client: Client, db: None) -> None:
    kept(path="/by-us", status=404, reason="unknown_path")
    kept(path="/by-the-cluster", status=404)
    kept(path="/left", status=499, reason="client_left")
    kept(path="/error", status=500)
    kept(path="/timeout", status=504, reason="instance_timeout")

    response = client.get(LIST, {"outcome": "refused"})

    assert paths(response) == ["/by-us"]
    assert "Outcome: refused by the gateway" in text_of(response)
    assert paths(client.get(LIST, {"outcome": "instance_error"})) == ["/error"]
    assert "Expected one of the outcomes" in text_of(client.get(LIST, {"outcome": "lost"}))
    assert client.post(LIST, {"outcome": "refused", "q": "404"})["Location"] == f"{LIST}?q=404&outcome=refused"


def test_requests_without_a_route_are_found(client: Client, db: None) -> None:
    kept(path="/none", route="")
    kept(path="/some", route="api/v1/users/me")

    assert paths(client.get(LIST, {"route": "none"})) == ["/none"]


def test_an_exact_time_is_a_chip_and_stays_in_the_form(client: Client, db: None) -> None:
    since = "2026-11-26T18:22:00Z"

    content = client.get(LIST, {"since": since}).content.decode()
    assert '<time datetime="2026-11-26T18:22:00.000Z"' in content
    assert f'<option value="{since}" selected>' in content

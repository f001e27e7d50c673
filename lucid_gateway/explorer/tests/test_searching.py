"""Searches find kept requests newest first, in a constant number of queries, however many rows match."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from lucid_gateway.explorer import searching
from lucid_gateway.explorer.conditions import (
    Condition,
    Equal,
    of_address,
    of_error_code,
    of_network,
    of_status,
    path_below,
)
from lucid_gateway.explorer.searching import Found, Search, find
from lucid_gateway.explorer.tests.stage import kept

MINUTE = timedelta(minutes=1)


def paths(found: Found) -> list[str]:
    return [row.path for row in found.rows]


@pytest.fixture
def few_examined(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a query examine four rows."""
    monkeypatch.setattr(searching, "EXAMINED", 4)
    return 4


def test_rows_are_found_newest_first(db: None) -> None:
    for number in (2, 0, 1):
        kept(number * MINUTE, path=f"/{number}")

    found = find(Search())

    assert (paths(found), found.total, found.is_partial, found.next_before) == (["/0", "/1", "/2"], 3, False, None)


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        (of_status("429"), {"status": 429}),
        (of_status("4xx"), {"status": 418}),
        (of_error_code("3001"), {"error_code": "LUCID_ERR_3001"}),
        (of_address("2001:db8::1"), {"address": "2001:DB8:0::1"}),
        (of_network("198.51.100.0/24"), {"address": "198.51.100.9"}),
        (of_network("198.51.0.0/16"), {"address": "198.51.100.9"}),
        (of_network("198.51.100.8/30"), {"address": "198.51.100.11"}),
        (of_network("2001:db8::/32"), {"address": "2001:db8:1:2::9"}),
        (of_network("0.0.0.0/0"), {"address": "255.255.255.255"}),
        (path_below("/api/v1/wallets"), {"path": "/api/v1/wallets/5"}),
        (Equal("reason", "tier_exhausted"), {"reason": "tier_exhausted"}),
        (Equal("user_id", "a-user"), {"user_id": "a-user"}),
        (Equal("credential_id", "a-key"), {"credential_id": "a-key"}),
        (Equal("cluster", "tron_payment"), {"cluster": "tron_payment"}),
        (Equal("instance", "http://one:1"), {"instance": "http://one:1"}),
        (Equal("route", "api/v1/x"), {"route": "api/v1/x"}),
        (Equal("method", "PUT"), {"method": "PUT"}),
        (Equal("request_id", "one"), {"request_id": "one"}),
    ],
    ids=str,
)
def test_each_condition_finds_its_rows_and_no_others(db: None, condition: Condition, values: dict[str, Any]) -> None:
    kept(address="2002::1", path="/api/v1/walle")
    wanted = kept(MINUTE, **values)

    assert [row.pk for row in find(Search((condition,))).rows] == [wanted.pk]


def test_pages_continue_without_gaps_or_repetitions(db: None) -> None:
    now = timezone.now()
    for number in range(7):
        kept(now=now, path=f"/{number}")  # all in the same millisecond
    seen, search = [], Search(limit=3)

    while True:
        found = find(search)
        seen += [row.pk for row in found.rows]
        if found.next_before is None:
            break
        search = Search(limit=3, before=found.next_before)

    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("conditions", [(), (of_status("4xx"), Equal("method", "GET"))])
def test_a_page_by_number_is_the_same_as_by_its_cursor(db: None, conditions: tuple[Condition, ...]) -> None:
    for number in range(5):
        kept(number * MINUTE, path=f"/{number}", status=404)
    first = find(Search(conditions, limit=2))

    by_cursor = find(Search(conditions, limit=2, before=first.next_before))
    by_number = find(Search(conditions, limit=2, offset=2))

    assert paths(by_cursor) == paths(by_number) == ["/2", "/3"]


def test_the_period_limits_each_kind_of_search(db: None) -> None:
    now = timezone.now()
    for minutes in (1, 10, 100):
        kept(minutes * MINUTE, path=f"/{minutes}", status=404)
    period = {"since": now - 50 * MINUTE, "until": now - 5 * MINUTE}

    for conditions in ((), (of_status("404"),), (path_below("/1"),), (of_status("404"), Equal("method", "GET"))):
        found = find(Search(conditions, **period))
        assert (paths(found), found.total) == (["/10"], 1)


def test_more_rows_than_are_examined_are_not_counted(db: None, few_examined: int) -> None:
    for number in range(6):
        kept(number * MINUTE)

    found = find(Search(limit=2))

    assert (found.total, found.is_partial, len(found.rows)) == (few_examined, True, 2)


def test_several_conditions_examine_the_newest_rows_and_say_how_far(db: None, few_examined: int) -> None:
    oldest = kept(9 * MINUTE, path="/oldest", status=404, method="PUT")
    for number in range(5):
        kept(number * MINUTE, status=404)
    conditions = (of_status("404"), Equal("method", "PUT"))

    newest = find(Search(conditions))
    assert (newest.rows, newest.is_partial) == ([], True)
    assert newest.searched_back_to is not None

    older = find(Search(conditions, before=newest.next_before))
    assert [row.pk for row in older.rows] == [oldest.pk]
    assert older.next_before is None


def test_a_rare_path_is_found_however_old_it_is(db: None, few_examined: int) -> None:
    rare = kept(20 * MINUTE, path="/rare/one")
    for number in range(6):
        kept(number * MINUTE, path="/often")

    found = find(Search((path_below("/rare"),)))
    assert ([row.pk for row in found.rows], found.is_partial) == ([rare.pk], False)

    often = find(Search((path_below("/often"),), limit=2))
    assert (paths(often), often.is_partial) == (["/often", "/often"], True)


@pytest.mark.parametrize(
    ("conditions", "queries"),
    [
        ((), 2),
        ((of_status("4xx"),), 2),
        ((path_below("/"),), 3),
        ((of_network("10.0.0.0/8"), of_status("4xx")), 3),
        ((of_status("4xx"), Equal("method", "GET"), Equal("reason", "not_found")), 2),
    ],
)
def test_the_number_of_queries_does_not_depend_on_the_rows(
    db: None, django_assert_num_queries: DjangoAssertNumQueries, conditions: tuple[Condition, ...], queries: int
) -> None:
    for rows in (3, 30):
        for number in range(rows):
            kept(number * MINUTE, address="10.1.2.3", status=404, reason="not_found")
        with django_assert_num_queries(queries):
            assert find(Search(conditions)).rows


@pytest.mark.parametrize("parse", [of_status, of_error_code, of_address, of_network])
@pytest.mark.parametrize("text", ["", "x", "42", "9xx", "LUCID_ERR_", "10.0.0.0/33", "4²9"])
def test_other_texts_are_not_conditions(parse: Callable[[str], Condition], text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(text)

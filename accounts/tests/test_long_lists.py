"""Lists of many rows: their pages are right, and the database reads few rows for each, whatever the conditions are."""

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Q, QuerySet
from django.test.utils import CaptureQueriesContext

from accounts.models import IssuedToken, User
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.audit.search import matching
from lucid_gateway.operators import best_index, long_lists
from lucid_gateway.operators.best_index import along_order
from lucid_gateway.operators.long_lists import LongListPaginator
from testing.database_work import database_work

ROWS = 4_000
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
# No page of a list needs more, with all its queries: on MongoDB keys and documents, on SQLite steps.
LITTLE = 1_500 if settings.ON_MONGODB else 13_000


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a list of a few hundred rows be a long one."""
    monkeypatch.setattr(long_lists, "COUNTED", 200)
    monkeypatch.setattr(long_lists, "FEW", 100)
    monkeypatch.setattr(long_lists, "COMPARED", 320)
    monkeypatch.setattr(long_lists, "MOST_READ", 400)
    monkeypatch.setattr(best_index, "SAMPLE", 100)


@pytest.fixture
def users(db: None) -> QuerySet[User]:
    """Many users: every hundredth has a wallet, every third a TOTP device, and the first 300 are inactive."""
    User.objects.bulk_create(
        User(
            email=f"user{number % 7}-{number}@example.org", username=f"user{number}", password="!", role="user",
            hardware_wallet_enabled=number % 100 == 0, totp_enabled=number % 3 == 0, is_active=number >= 300,
        )
        for number in range(ROWS)
    )  # fmt: skip
    return User.objects.order_by("-created_at", "-user_id")


@pytest.fixture
def events(db: None) -> QuerySet[AuditEvent]:
    """Many events, all from 10.0.0.0/8; the first 300 are from one network, which sent nothing later."""
    AuditEvent.objects.bulk_create(
        AuditEvent(
            type=("login.failed", "login.succeeded", "logout")[number % 3],
            outcome="blocked" if number % 100 == 0 else "success",
            address=f"10.9.9.{number % 200}" if number < 300 else f"10.1.{number % 50}.{number % 200}",
            created_at=BEGINNING + timedelta(seconds=number),
        )
        for number in range(ROWS)
    )
    return AuditEvent.objects.order_by("-created_at", "-event_id")


CONDITIONS: dict[str, Any] = {
    "role": {"role": "user"}, "inactive": {"is_active": False}, "wallet": {"hardware_wallet_enabled": True},
    "totp": {"totp_enabled": True}, "locked": {"locked_until__gt": BEGINNING},
    "both": {"role": "user", "hardware_wallet_enabled": True},
    "all": {"role": "user", "totp_enabled": True, "is_active": False, "hardware_wallet_enabled": True},
}  # fmt: skip
ORDERS = [("-created_at", "-user_id"), ("created_at", "user_id"), ("email",), ("-username",)]
TERMS = ["10.9.9.0/24", "10.9.9.7", "10.0.0.0/8", "10.1.3.0/24", "login.", "login.failed", "192.0.2.0/24"]


def pages_of(rows: QuerySet[Any], per_page: int = 30) -> list[list[Any]]:
    paginator = LongListPaginator(rows, per_page)
    return [list(paginator.page(number).object_list) for number in paginator.page_range]


def work_of(rows: QuerySet[Any], number: int) -> int:
    """Return the work for one page, with the count."""
    with database_work() as work:
        assert list(LongListPaginator(rows, 30).page(number).object_list)
    return work.amount


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_the_pages_of_a_list_have_all_its_rows_in_order(users: QuerySet[User], order: tuple[str, ...]) -> None:
    for conditions in ({}, *CONDITIONS.values()):
        rows = users.filter(**conditions).order_by(*order)
        shown = list(rows)[: long_lists.COUNTED] if conditions else list(rows)
        assert list(itertools.chain(*pages_of(rows))) == shown, conditions


@pytest.mark.parametrize("outcome", [{}, {"outcome": "success"}, {"outcome": "blocked"}], ids=str)
def test_the_pages_of_a_search_have_its_newest_rows(events: Any, outcome: dict[str, str]) -> None:
    for term in TERMS:
        rows = matching(events, term).filter(**outcome)
        assert list(itertools.chain(*pages_of(rows))) == list(rows)[: long_lists.COUNTED], term


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_page_of_users_reads_few_rows(users: QuerySet[User], order: tuple[str, ...]) -> None:
    for name in set(CONDITIONS) - {"locked"}:
        assert work_of(users.filter(**CONDITIONS[name]).order_by(*order), 1) < LITTLE, name


def test_the_first_and_last_pages_of_a_whole_list_read_few_rows(users: QuerySet[User]) -> None:
    for number in (1, 2, 133, 134):
        assert work_of(users, number) < LITTLE // 4, number


def test_the_oldest_rows_come_from_an_index_too(users: QuerySet[User]) -> None:
    for conditions in ({}, {"role": "user"}):
        assert work_of(users.filter(**conditions).order_by("created_at", "-pk"), 1) < LITTLE


def test_a_search_in_a_filtered_log_looks_values_up_by_their_own_index(events: Any) -> None:
    with database_work() as work:
        assert not matching(events.filter(outcome="success"), "nobody")

    assert work.amount < LITTLE // 4


@pytest.mark.parametrize("filtered", [{"outcome": "success"}, {"type__in": ["login.failed", "logout"]}], ids=str)
def test_an_old_network_is_found_before_a_frequent_value(events: Any, filtered: dict[str, Any]) -> None:
    assert work_of(matching(events, "10.9.9.0/24").filter(**filtered), 1) < 2 * LITTLE


def test_two_filters_of_the_log_have_an_index_together(events: Any) -> None:
    assert work_of(events.filter(outcome="blocked", type="login.failed"), 1) < LITTLE // 4


def test_a_kind_of_event_of_a_network_has_an_index(events: Any) -> None:
    little = LITTLE // 2 if settings.ON_MONGODB else LITTLE
    assert work_of(matching(events, "10.9.9.0/24").filter(type="login.failed"), 1) < little


def test_a_page_of_a_wide_search_reads_few_rows(events: Any) -> None:
    for term, number in itertools.product(("10.9.9.0/24", "10.0.0.0/8", "login."), (1, 5)):
        assert work_of(matching(events, term), number) < LITTLE, term


def test_alternatives_are_found_before_a_frequent_value(users: QuerySet[User]) -> None:
    rows = users.filter(Q(email="user0-7@example.org") | Q(username="user8")).filter(role="user")

    assert work_of(rows, 1) < LITTLE
    assert {user.username for user in pages_of(rows)[0]} == {"user7", "user8"}


def test_few_rows_with_a_value_are_found_before_a_long_time(users: QuerySet[User]) -> None:
    """More are revoked than are sorted quickly, but far fewer than were issued in that time."""
    owner = users[0]
    IssuedToken.objects.bulk_create(
        IssuedToken(
            jti=f"token-{number}", family=uuid.uuid4(), user=owner, kind="refresh",
            issued_at=BEGINNING + timedelta(seconds=number), expires_at=BEGINNING + timedelta(days=1),
            revoked_at=BEGINNING + timedelta(hours=1) if number < 150 else None, predecessor=f"before-{number}",
        )
        for number in range(ROWS)
    )  # fmt: skip
    few = LITTLE if settings.ON_MONGODB else 4 * LITTLE  # SQLite has no index for this: it reads all rows once
    revoked = IssuedToken.objects.filter(revoked_at__isnull=False).order_by("-issued_at", "-jti")

    assert work_of(revoked.filter(issued_at__gte=BEGINNING, issued_at__lt=BEGINNING + timedelta(1)), 1) < few


@pytest.mark.parametrize("conditions", [{"role": "user"}, {"email__gte": "user1", "email__lt": "user5"}], ids=str)
def test_a_count_reads_no_documents(users: QuerySet[User], conditions: dict[str, Any]) -> None:
    with database_work() as work:
        assert LongListPaginator(users.filter(**conditions), 30).count == 200

    assert work.documents == 0
    assert work.amount < LITTLE


def test_a_list_along_its_order_uses_that_index(users: QuerySet[User]) -> None:
    with database_work() as work:
        rows = list(along_order(users.filter(hardware_wallet_enabled=True)))
        assert len(rows) == ROWS // 100

    if settings.ON_MONGODB:
        assert work.keys == ROWS
        assert "created_at: 1" in work.plans[0]
    else:
        assert "user_by_creation" in along_order(users.filter(role="user")).explain()


def test_the_number_of_queries_is_the_same_for_each_page(users: QuerySet[User]) -> None:
    found = set()
    for number in (1, 3, 7):
        with CaptureQueriesContext(connection) as queries:
            work_of(users.filter(role="user", totp_enabled=True), number)
        found.add(len(queries))

    assert len(found) == 1


def test_comparisons_leave_out_rows_without_a_value(users: QuerySet[User]) -> None:
    for number, moment in ((1, BEGINNING), (2, BEGINNING + timedelta(1))):
        users.filter(username=f"user{number}").update(locked_until=moment)
    found = {
        "lt": users.filter(locked_until__lt=BEGINNING + timedelta(1)).count(),
        "lte": users.filter(locked_until__lte=BEGINNING + timedelta(1)).count(),
        "gt": users.filter(locked_until__gt=BEGINNING).count(),
        "none": users.filter(locked_until=None).count(),
        "some": users.filter(locked_until__isnull=False).count(),
        "not later": users.exclude(locked_until__gt=BEGINNING).count(),
    }

    assert found == {"lt": 1, "lte": 2, "gt": 1, "none": ROWS - 2, "some": 2, "not later": ROWS - 1}

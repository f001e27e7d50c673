"""How the databases sort: the newest of many rows come from an index, not from a sort of all."""

from typing import Any

import pytest
from django.conf import settings
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat

from accounts.models import ApiKey, IssuedToken, User
from conftest import make_user
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.policy.roles import Role


def sorts_all(rows: QuerySet[Any]) -> bool:
    """Return whether the query plan reads and sorts all rows."""
    plan = rows.explain()
    if not settings.ON_MONGODB:
        return "TEMP B-TREE" in plan
    chosen = plan.partition('"rejectedPlans"')[0]
    return "COLLSCAN" in chosen or '"SORT"' in chosen


@pytest.fixture
def users(db: None) -> QuerySet[User]:
    for number in (2, 0, 1):
        make_user(f"user{number}", Role.USER)
    return User.objects.filter(username__startswith="user")


@pytest.mark.parametrize(
    ("model", "order"),
    [(User, "created_at"), (IssuedToken, "issued_at"), (ApiKey, "created_at"), (KeptRequest, "kept_id")],
)
@pytest.mark.parametrize("fields", [None, ("pk",)], ids=["rows", "values"])
def test_the_newest_rows_come_from_an_index(db: None, model: Any, order: str, fields: tuple[str, ...] | None) -> None:
    rows = model.objects.order_by(f"-{order}", "-pk")

    assert not sorts_all((rows if fields is None else rows.values_list(*fields))[:50])


@pytest.mark.parametrize("filtered", [{"role": "user"}, {"is_active": True}], ids=["role", "activity"])
def test_the_newest_users_of_a_filter_come_from_an_index(users: Any, filtered: dict[str, Any]) -> None:
    assert not sorts_all(User.objects.filter(**filtered).order_by("-created_at", "-pk")[:50])


def test_the_names_that_begin_with_a_text_come_from_an_index(users: Any) -> None:
    assert not sorts_all(User.objects.filter(email__gte="u", email__lt="v").order_by("email").values_list("pk")[:50])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (lambda users: users.order_by("username").values_list("username", flat=True)[1:], ["user1", "user2"]),
        (lambda users: users.order_by("-username").values_list("email", flat=True)[:1], ["user2@example.org"]),
        (lambda users: [user.username for user in users.only("username").order_by("username")[:2]], ["user0", "user1"]),
        (lambda users: users.order_by(Concat(Value("x"), F("username"))).values_list("username", flat=True),
         ["user0", "user1", "user2"]),
        (lambda users: users.annotate(name=F("username")).order_by("-name").values_list("name", flat=True)[:2],
         ["user2", "user1"]),
        (lambda users: users.order_by("-username").values_list("role", flat=True).distinct(), ["user"] * 3),
        (lambda users: users.order_by(F("last_login").desc(nulls_last=True), "username")
         .values_list("username", flat=True)[:2], ["user0", "user1"]),
    ],
    ids=["skip", "limit", "only", "expression", "annotation", "distinct", "nulls"],
)  # fmt: skip
def test_sorted_rows_have_their_fields(users: Any, rows: Any, expected: list[str]) -> None:
    assert list(rows(users)) == expected

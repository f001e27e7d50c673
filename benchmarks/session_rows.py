"""Fills the database of its environment with sessions and measures requests for those of one user; run as a process.

It prints `{}` when it is ready. For each line of input it prints the milliseconds of several repetitions by the name of
the request, as JSON. Query plans and progress go to stderr.
"""

import json
import random
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402  # after django.setup()
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client  # noqa: E402
from tqdm import tqdm  # noqa: E402

from accounts.models import User  # noqa: E402
from accounts.tokens.issuing import issue_tokens  # noqa: E402
from sessions_api.models import Chunk, Session  # noqa: E402

OF_EACH = 1000
REPEATS = 10
OPERATORS = "operators'"
ON_MONGODB: bool = settings.ON_MONGODB
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ["active", "failed", "cancelled", *["completed"] * 7]


def people(first: int, last: int) -> list[User]:
    """Create users with the numbers from `first` to before `last`."""
    users = [User(email=f"user-{number}@example.org", username=f"user-{number}") for number in range(first, last)]
    return User.objects.bulk_create(users)


def give_sessions(user: User) -> None:
    """Give the user a thousand sessions, a tenth of them active, with two chunks each."""
    dice = random.Random(1)
    for number in range(OF_EACH):
        status = STATUSES[number % len(STATUSES)]
        active = status == "active"
        at = BEGINNING + timedelta(seconds=dice.randrange(300 * 86_400))
        session = Session.objects.create(
            user=user, name=f"Support call {dice.randrange(100_000)}", status=status, created_at=at, updated_at=at,
            started_at=at, completed_at=None if active else at + timedelta(hours=1), settled=not active,
            active_slot=number // len(STATUSES) if active else None, size_bytes=0 if active else number * 1000,
            metadata={"ticket": number},
        )  # fmt: skip
        for index in range(2 * active):
            Chunk.objects.create(session=session, index=index, size=4096, state="recorded")


def copy_sessions(others: Sequence[User]) -> None:
    """Copy all stored rows for each of the other users; the rows of all users are interleaved."""
    sessions, chunks = stored(Session), defaultdict(list)
    for chunk in stored(Chunk):
        chunks[chunk["session_id"]].append(chunk)
    for session in tqdm(sessions, unit="thousand", mininterval=10):
        copies = [session | {"session_id": new_key(), "user_id": as_stored(user.pk)} for user in others]
        insert(Session, copies)
        insert(Chunk, [
            chunk | {"chunk_id": new_key(), "session_id": copy["session_id"]}
            for chunk in chunks[session["session_id"]] for copy in copies
        ])  # fmt: skip


def as_stored(key: uuid.UUID) -> Any:
    """The key in the form that the database stores."""
    return User._meta.pk.get_db_prep_value(key, connection)


def new_key() -> Any:
    return as_stored(uuid.uuid4())


def stored(model: Any) -> list[dict[str, Any]]:
    """All rows in the form that the database stores."""
    if ON_MONGODB:
        return list(connection.get_collection(model._meta.db_table).find({}, {"_id": False}))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {model._meta.db_table}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def insert(model: Any, rows: list[dict[str, Any]]) -> None:
    """Store the rows."""
    if not rows:
        return
    if ON_MONGODB:
        connection.get_collection(model._meta.db_table).insert_many(rows, ordered=False)
        return
    names = ", ".join(f'"{name}"' for name in rows[0])
    places = ", ".join(["%s"] * len(rows[0]))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {model._meta.db_table} ({names}) VALUES ({places})", [list(row.values()) for row in rows]
        )


API, PAGES = "/api/v1/sessions", "/admin/sessions_api/session/"


def requests(user: User) -> dict[str, str]:
    """The paths of the measured requests by name: first those of the user, then those of an operator."""
    one = Session.objects.filter(user=user).first()
    assert one is not None
    return {
        "read": f"{API}/{one.pk}",
        "first page": API,
        "last page": f"{API}?page=50",
        "active ones": f"{API}?status=active",
        "completed since": f"{API}?status=completed&created_since=2026-09-01T00:00:00Z",
        "name contains": f"{API}?name=call%204",
        "sorted by name": f"{API}?sort=name",
        "sorted by update": f"{API}?sort=-updated_at&limit=100",
        "operators' list": PAGES,
        "operators' list of failed ones": f"{PAGES}?status__exact=failed",
        "operators' search by name": f"{PAGES}?q=Support%20call%204711",
        "operators' search by id": f"{PAGES}?q={one.pk}",
    }


def measure(client: Client, operators: Client, paths: dict[str, str]) -> dict[str, list[float]]:
    """Return the milliseconds that several repetitions of each request took."""
    found = {}
    for name, path in paths.items():
        who, repeats = (operators, 1) if name.startswith(OPERATORS) else (client, REPEATS)
        found[name] = [timed(who, path) for _ in range(repeats)]
    return found


def timed(client: Client, path: str) -> float:
    """Send a request, which must succeed; return its milliseconds."""
    began = time.perf_counter()
    answer = client.get(path)
    taken = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, answer.content
    return taken


def show_plans(user: User) -> None:
    """Print the query plans of the lists."""
    own = Session.objects.owned_by(user.pk)
    queries: dict[str, Any] = {
        "first page": own.order_by("-created_at", "-pk").values("pk")[:20],
        "active ones": own.filter(status="active").order_by("-created_at", "-pk").values("pk")[:20],
        "name contains": own.filter(name__icontains="call 4").order_by("-created_at", "-pk").values("pk")[:20],
        "sorted by name": own.order_by("name", "pk").values("pk")[:20],
        "sorted by update": own.order_by("-updated_at", "-pk").values("pk")[:100],
        "totals": Chunk.objects.filter(session__in=[one.pk for one in own[:20]], state="recorded").values("size"),
    }
    for name, query in queries.items():
        print(f"-- {name}\n{query.explain()}", file=sys.stderr, flush=True)


def main(users: int) -> None:
    """Fill the database, show the plans, then measure once per line of standard input."""
    call_command("migrate", verbosity=0)
    operator = User.objects.create(email="operator@example.org", username="operator", role="super_admin")
    (user,) = people(0, 1)
    give_sessions(user)
    if users > 1:
        user = fill(people(1, users))
        show_plans(user)
    client = Client(headers={"Authorization": f"Bearer {issue_tokens(user).access}"}, HTTP_HOST="127.0.0.1")
    operators, paths = Client(HTTP_HOST="127.0.0.1"), requests(user)
    operators.force_login(operator)
    measure(client, operators, paths)  # warm-up: first requests are slower
    print("{}", flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure(client, operators, paths)), flush=True)


def fill(others: Sequence[User]) -> User:
    """Copy the first user's rows for the others; return a user in the middle of them."""
    if not ON_MONGODB:
        connection.cursor().execute(
            "PRAGMA cache_size=-3000000"
        )  # for this connection only, which is closed after copying
    with transaction.atomic():
        copy_sessions(others)
    connection.close()
    return others[len(others) // 2]


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""What a page costs: queries, wall and processor time, and how much the database reads."""

import json
import re
import time
from argparse import Namespace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pymongo
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.tests.operators import signed_in
from accounts.tokens.issuing import issue_tokens
from accounts.tokens.signing_keys import bootstrap
from lucid_gateway.console.tests.scale.pages import all_pages
from lucid_gateway.console.tests.scale.rows import fill, key
from testing.database_work import database_work

FEW = 60
LIMIT_MS, OVERVIEW_LIMIT_MS = 300, 100
MEASURED_AGAIN_MS = 80
SLOWEST = 10
KINDS_OF_ROWS, LONG_LIST = 4, 3
REPORT_EVERY = 100
TICK_MS = 10  # of the processor times of other processes


class Cost(NamedTuple):
    """`ms` is wall time; `own_ms` and `server_ms` are processor time of this process and of mongod. `work` is the
    number of keys and documents that MongoDB examined, or of steps of SQLite's virtual machine. `plans` are MongoDB's
    plans that examined the most.
    """

    page: str
    status: int
    queries: int
    ms: float
    own_ms: float
    server_ms: float
    work: int
    plans: str

    @property
    def limit_ms(self) -> int:
        return OVERVIEW_LIMIT_MS if re.fullmatch(r"/admin/(overview\.json)?(\?period=24h)?", self.page) else LIMIT_MS


class Staff:
    """A signed-in super admin, who opens pages and calls the API."""

    def __init__(self) -> None:
        self.user = User.objects.get(pk=key(0))
        self.browser, self.api = signed_in(self.user), Client(HTTP_HOST="testserver")
        self.token = issue_tokens(self.user).access

    def get(self, page: str) -> Any:
        if page.startswith("/api/"):
            return self.api.get(page, headers={"Authorization": f"Bearer {self.token}"})
        if page.startswith("/admin/search/?"):
            path, _, query = page.partition("?")
            return self.browser.post(path, dict(parse_qsl(query)))
        return self.browser.get(page)


def run(options: Namespace) -> int:
    """Fill, measure and print; return 1 if a page is slower than its limit, or takes more queries with many rows."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s {text}", flush=True)

    for name, rows in (("few", FEW), ("many", options.rows)):
        use(name, options)
        call_command("migrate", verbosity=0)
        bootstrap()
        fill(rows, lambda text, name=name: say(f"{name}: {text}"))
    if options.fill_only:
        return 0
    staff = Staff()
    pages = [page for page in all_pages(staff.browser) if options.only in page]
    say(f"{len(pages):,} pages")
    costs = []
    for number, page in enumerate(pages, 1):
        costs.append(cost_of(staff, page))
        if options.save:
            with options.save.open("a") as file:
                file.write(f"{json.dumps(costs[-1]._asdict())}\n")
        if number % REPORT_EVERY == 0:
            say(f"{number:,} pages measured, the slowest took {max(cost.ms for cost in costs):.0f} ms")
    use("few", options)
    staff = Staff()
    few = {page: answer_of(staff, page) for page in pages}
    say("all pages opened with few rows, too")
    return report(costs, few, options)


def use(name: str, options: Namespace) -> None:
    """Continue with the database of this name."""
    connection.close()
    file = options.data.absolute() / "sqlite" / f"{name}.sqlite3"
    connections.databases["default"]["NAME"] = name if settings.ON_MONGODB else str(file)
    del connections["default"]


def answer_of(staff: Staff, page: str) -> tuple[int, int]:
    """Return the status of the page and the number of queries that it takes."""
    connection.queries_log.clear()  # the log holds 9,000 queries
    with CaptureQueriesContext(connection) as captured:
        status = staff.get(page).status_code
    return status, len(captured)


def cost_of(staff: Staff, page: str) -> Cost:
    """Open the page: once to count queries and work, and again for its times: medians of five, if it is slow."""
    with database_work() as work:
        status, count = answer_of(staff, page)
    times = [times_of(staff, page)]
    if times[0][0] > MEASURED_AGAIN_MS:
        times += [times_of(staff, page) for _ in range(4)]
    wall, own, server = (median(each) for each in zip(*times, strict=True))
    return Cost(page, status, count, wall, own, server, work.amount, "; ".join(work.plans[:2]))


def times_of(staff: Staff, page: str) -> tuple[float, float, float]:
    """Return the milliseconds of the clock, of this process and of mongod."""
    began, used, server = time.perf_counter(), time.process_time(), server_ms()
    staff.get(page)
    return (time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000, server_ms() - server


@cache
def mongod_id() -> int:
    """Return the process id of mongod."""
    client: Any = pymongo.MongoClient(settings.ENV.MONGODB_URI)
    with client:
        return int(client.admin.command("serverStatus")["pid"])


def server_ms() -> float:
    """Return the processor time that mongod has used, in milliseconds."""
    if not settings.ON_MONGODB:
        return 0.0
    fields = Path(f"/proc/{mongod_id()}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


def report(costs: list[Cost], few: dict[str, tuple[int, int]], options: Namespace) -> int:
    """Print the slowest pages, those that read the most, and the faults."""
    costs.sort(key=lambda cost: -cost.ms)
    print(f"\n{connection.vendor}, {options.rows:,} users, audit events and kept requests, {len(costs):,} pages\n")
    table("slowest", costs[:SLOWEST], few)
    table("with the most work", sorted(costs, key=lambda cost: -cost.work)[:SLOWEST], few)
    table("with the most queries", sorted(costs, key=lambda cost: -cost.queries)[:SLOWEST], few)
    table("overview", [cost for cost in costs if cost.limit_ms == OVERVIEW_LIMIT_MS], few)
    failed = [cost for cost in costs if cost.status >= 500]
    slow = [cost for cost in costs if cost.ms > cost.limit_ms]
    growing = [cost for cost in costs if grows(cost, *few[cost.page])]
    for name, bad in (("fail", failed), ("are too slow", slow), ("take more queries with many rows", growing)):
        print(f"{len(bad)} pages {name}")
        if bad:
            table(name, bad[:40], few)
    return int(bool(failed or slow or growing))


def grows(cost: Cost, status: int, queries: int) -> bool:
    """Return whether the page takes more queries than with few rows, where it answered with this status.

    Kinds of rows that few rows lack take a query each. A list of several pages takes up to three more, however long it
    is: two ask how dense it is, and one sorts keys (`operators.long_lists`).
    """
    return cost.status == status and cost.queries > queries + KINDS_OF_ROWS + LONG_LIST


def table(name: str, costs: list[Cost], few: dict[str, tuple[int, int]]) -> None:
    print(f"| {name} | queries, few rows | queries | ms | own CPU ms | mongod CPU ms | work | plans |")
    print("|---|---|---|---|---|---|---|---|")
    for cost in costs:
        times = f"{cost.ms:.0f} | {cost.own_ms:.0f} | {cost.server_ms:.0f}"
        print(f"| `{cost.page}` | {few[cost.page][1]} | {cost.queries} | {times} | {cost.work:,} | {cost.plans} |")
    print()

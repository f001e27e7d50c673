"""The tables of the overview: why requests were refused or failed, and the routes with the most requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lucid_gateway.console.offenders import Offender, most_affected, with_names
from lucid_gateway.figures.reading import Counted
from lucid_gateway.operators.links import requests_page
from lucid_gateway.policy.reasons import REASONS
from lucid_gateway.server.samples import INSTANCE_ERROR

INSTANCE_ERROR_TEXT = "The instance answered with a server error (5xx)."


@dataclass(frozen=True)
class ReasonRow:
    """A reason with its requests and who is affected most: an offender, or for failures a route."""

    name: str
    text: str
    count: int
    is_failure: bool
    url: str
    offender: Offender | None = None
    route: str = ""
    route_url: str = ""

    @property
    def words(self) -> str:
        return self.name.replace("_", " ")


def reasons_of(total: Counted, offenders: Iterable[Offender], since: str, most: int) -> list[ReasonRow]:
    """Return up to `most` reasons of refusals and failures, those with the most requests first, by two queries."""
    affected = most_affected(offenders)
    rows = [refusal(name, n, affected.get(name), since) for name, n in total.groups.get("refused", {}).items()]
    rows += [failure(name, n, total.groups, since) for name, n in total.groups.get("failed", {}).items()]
    return names_filled_in(sorted((row for row in rows if row.count), key=lambda row: -row.count)[:most])


def refusal(name: str, count: int, offender: Offender | None, since: str) -> ReasonRow:
    return ReasonRow(name, text_of(name), count, False, requests_page(reason=name, since=since), offender)


def failure(name: str, count: int, groups: Mapping[str, Mapping[str, int]], since: str) -> ReasonRow:
    routes = {
        route: n
        for key, n in groups.get("failed.routes", {}).items()
        for reason, _, route in (key.partition(" "),)
        if reason == name
    }
    route = max(routes, key=lambda route: routes[route], default="")
    # The explorer knows no reason for an answer that the instance gave itself.
    filters = {"outcome": "instance_error"} if name == INSTANCE_ERROR else {"reason": name}
    return ReasonRow(
        name, text_of(name), count, True, requests_page(**filters, since=since), route=route,
        route_url=requests_page(**filters, route=route, since=since),
    )  # fmt: skip


def text_of(name: str) -> str:
    return REASONS[name].text if name in REASONS else INSTANCE_ERROR_TEXT


def names_filled_in(rows: list[ReasonRow]) -> list[ReasonRow]:
    named = iter(with_names([row.offender for row in rows if row.offender is not None]))
    return [row if row.offender is None else replace(row, offender=next(named)) for row in rows]


@dataclass(frozen=True)
class RouteRow:
    """A route with its requests, and the parts of them that were refused and have failed; "" is no route."""

    name: str
    count: int
    refused: int
    failed: int
    since: str

    @property
    def url(self) -> str:
        return self.requests()

    @property
    def refused_url(self) -> str:
        return self.requests(outcome="refused")

    @property
    def failed_url(self) -> str:
        return self.requests(status="5xx")

    def requests(self, **filters: str) -> str:
        return requests_page(route=self.name or "none", since=self.since, **filters)


def routes_of(total: Counted, since: str) -> list[RouteRow]:
    """Return the routes with the most requests first."""
    routes, refused, failed = (total.groups.get(group, {}) for group in ("routes", "routes.refused", "routes.failed"))
    rows = [RouteRow(name, n, refused.get(name, 0), failed.get(name, 0), since) for name, n in routes.items()]
    return sorted(rows, key=lambda row: -row.count)

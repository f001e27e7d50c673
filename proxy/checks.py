"""System checks: each route can be reached and none overlaps another by accident; identity headers are signed."""

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  # Django's own name

from lucid_gateway.policy.routes import PARAMETER, ROUTES, Route

REST = "*}"


@register(Tags.urls)
def check_routes(**_: Any) -> list[CheckMessage]:
    """Return an error for each route that is repeated, hidden, ambiguous, or in more than one tier."""
    return [*repeated(ROUTES), *overlapping(ROUTES), *mixed_tiers(ROUTES)]


@register(Tags.security, deploy=True)
def check_signature(**_: Any) -> list[CheckMessage]:
    """Return a warning if clusters cannot verify that the identity headers come from the gateway."""
    if settings.ENV.IDENTITY_SIGNING_SECRET:
        return []
    hint = "Set IDENTITY_SIGNING_SECRET, and let the clusters verify X-Gateway-Signature."
    return [Warning("The identity headers for clusters are not signed.", hint=hint, id="proxy.W001")]


def repeated(routes: Iterable[Route]) -> list[CheckMessage]:
    """Return an error for each path and method with more than one route."""
    seen: set[tuple[str, str]] = set()
    found: list[CheckMessage] = []
    for path, method in [(route.path, method) for route in routes for method in route.methods]:
        if (path, method) in seen:
            found.append(Error(f"There is more than one route for {method} {path}.", id="proxy.E001"))
        seen.add((path, method))
    return found


def overlapping(routes: Sequence[Route]) -> list[CheckMessage]:
    """Return an error for each path hidden by an earlier one, and for each overlap in which neither is narrower."""
    found: list[CheckMessage] = []
    for first, second in combinations(dict.fromkeys(route.path for route in routes), 2):
        if covers(first, second):
            found.append(Error(f"The route {second} is hidden by {first}.", id="proxy.E002"))
        elif overlap(first.split("/"), second.split("/")) and not covers(second, first):
            found.append(Error(f"Some paths match both {first} and {second}.", id="proxy.E003"))
    return found


def mixed_tiers(routes: Iterable[Route]) -> list[CheckMessage]:
    """Return an error for each path whose methods are in different tiers: a path has one throttle."""
    tiers: dict[str, set[str]] = {}
    for route in routes:
        tiers.setdefault(route.path, set()).add(route.tier)
    mixed = [path for path, of_path in tiers.items() if len(of_path) > 1]
    return [Error(f"The methods of {path} are in different tiers.", id="proxy.E004") for path in mixed]


def covers(wide: str, narrow: str) -> bool:
    """Return whether every path that matches `narrow` also matches `wide`."""
    pattern = "/".join(
        ".+" if part.endswith(REST) else "[^/]+" if PARAMETER.fullmatch(part) else re.escape(part)
        for part in wide.split("/")
    )
    # NUL stands for a parameter's value: it equals no literal of `wide`. A rest stands for more than one segment.
    sample = "/".join("\0/\0" if part.endswith(REST) else PARAMETER.sub("\0", part) for part in narrow.split("/"))
    return re.fullmatch(pattern, sample) is not None


def overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether some path matches both routes, given as lists of segments."""
    if not one or not other:
        return not one and not other
    if one[0].endswith(REST) or other[0].endswith(REST):
        return True
    same = one[0] == other[0] or PARAMETER.fullmatch(one[0]) or PARAMETER.fullmatch(other[0])
    return bool(same) and overlap(one[1:], other[1:])

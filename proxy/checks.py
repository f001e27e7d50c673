"""System checks of the route table: each row can be reached, and none is left to the order of the rows by accident."""

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
    """Return an error for each pair of rows of which one hides the other, or that meet by accident."""
    return [*repeated(ROUTES), *overlapping(ROUTES), *of_several_tiers(ROUTES)]


@register(Tags.security, deploy=True)
def check_signature(**_: Any) -> list[CheckMessage]:
    """Return a warning where clusters cannot know that it was the gateway who named the caller."""
    if settings.ENV.IDENTITY_SIGNING_SECRET:
        return []
    hint = "Set IDENTITY_SIGNING_SECRET, and let the clusters verify X-Gateway-Signature."
    return [Warning("What clusters are told of the caller is not signed.", hint=hint, id="proxy.W001")]


def repeated(routes: Iterable[Route]) -> list[CheckMessage]:
    """Return an error for each method of a path that has two rows."""
    seen: set[tuple[str, str]] = set()
    found: list[CheckMessage] = []
    for path, method in [(route.path, method) for route in routes for method in route.methods]:
        if (path, method) in seen:
            found.append(Error(f"Two routes for {method} {path}.", id="proxy.E001"))
        seen.add((path, method))
    return found


def overlapping(routes: Sequence[Route]) -> list[CheckMessage]:
    """Return an error for each path that an earlier one hides, and for each two of which neither is the narrower."""
    found: list[CheckMessage] = []
    for first, second in combinations(dict.fromkeys(route.path for route in routes), 2):
        if covers(first, second):
            found.append(Error(f"The route {second} is hidden by {first}.", id="proxy.E002"))
        elif overlap(first.split("/"), second.split("/")) and not covers(second, first):
            found.append(Error(f"Some paths lead to both {first} and {second}.", id="proxy.E003"))
    return found


def of_several_tiers(routes: Iterable[Route]) -> list[CheckMessage]:
    """Return an error for each path whose methods are counted in different tiers: a path has one throttle."""
    tiers: dict[str, set[str]] = {}
    for route in routes:
        tiers.setdefault(route.path, set()).add(route.tier)
    return [Error(f"The route {path} has several tiers.", id="proxy.E004") for path, of in tiers.items() if len(of) > 1]


def covers(wide: str, narrow: str) -> bool:
    """Return whether each path that leads to `narrow` leads to `wide`, too."""
    pattern = "/".join(
        ".+" if part.endswith(REST) else "[^/]+" if PARAMETER.fullmatch(part) else re.escape(part)
        for part in wide.split("/")
    )
    # What a parameter of the narrow one stands for is neither a literal of the wide one nor, for a rest, one segment.
    sample = "/".join("\0/\0" if part.endswith(REST) else PARAMETER.sub("\0", part) for part in narrow.split("/"))
    return re.fullmatch(pattern, sample) is not None


def overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether there is a path that leads to both, given segment by segment."""
    if not one or not other:
        return not one and not other
    if one[0].endswith(REST) or other[0].endswith(REST):
        return True
    same = one[0] == other[0] or PARAMETER.fullmatch(one[0]) or PARAMETER.fullmatch(other[0])
    return bool(same) and overlap(one[1:], other[1:])

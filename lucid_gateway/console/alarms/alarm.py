"""An alarm, and the words and links that alarms have in common."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

WARN, BAD = "warn", "bad"
MOST_NAMED = 3


@dataclass(frozen=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True)
class Alarm:
    """Something that needs attention: `title` says what is wrong, and `sentence` what that means and what to do.

    `since` is shown behind `since_word`. `links` lead to the evidence, `remedy` to the page that acts.
    """

    kind: str
    severity: str
    title: str
    sentence: str
    since: datetime | None = None
    links: tuple[Link, ...] = ()
    remedy: Link | None = None
    since_word: str = "Since"


@dataclass(frozen=True)
class Kind:
    """A kind of alarm; `find` may raise django.db.Error and RedisUnavailable."""

    name: str
    text: str
    find: Callable[[], Iterable[Alarm]]


def links(*pairs: tuple[str, str]) -> tuple[Link, ...]:
    """Return the links to pages that this gateway has."""
    return tuple(Link(text, url) for text, url in pairs if url)


def remedy(text: str, url: str) -> Link | None:
    return Link(text, url) if url else None


def ago(seconds: float) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)


def named(names: list[str]) -> str:
    """Return `a`, `a and b` or `a, b, c and 4 more`."""
    shown, more = names[:MOST_NAMED], len(names) - MOST_NAMED
    *first, last = [*shown, f"{more} more"] if more > 0 else shown
    return f"{', '.join(first)} and {last}" if first else last

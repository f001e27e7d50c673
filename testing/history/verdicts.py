"""What the checker says about one rule."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from testing.history.operations import Fault, Operation

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Verdict:
    """Whether a rule holds, and the part of the history that proves it: what breaks the rule or, if it holds, all
    operations that were judged.
    """

    rule: str
    holds: bool
    text: str
    evidence: tuple[Operation, ...]
    faults: tuple[Fault, ...] = ()


def verdicts(rule: str, judged: Iterable[Operation], broken: list[Verdict], text: str) -> list[Verdict]:
    """Return the violations or, without any, the verdict that the rule holds."""
    return broken or [Verdict(rule, True, text, tuple(judged))]


def grouped(things: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return the things by their key, in their order."""
    groups: dict[K, list[T]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return groups

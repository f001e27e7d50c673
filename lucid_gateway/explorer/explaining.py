"""Explains a request with the words of `sentences`."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import conditional_escape
from django.utils.safestring import SafeString

from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.sentences import (
    ANSWERED,
    ANSWERED_BY_CLUSTER,
    OF_ANOTHER_RELEASE,
    REFUSED_BY_PAGE,
    WORDS,
    Words,
)
from lucid_gateway.operators.buttons import Button


@dataclass(frozen=True)
class Explanation:
    """A request explained. `headline` and `says` are HTML; `asks` says whom to ask for what the operator may not do."""

    headline: SafeString
    says: SafeString
    buttons: list[Button]
    asks: list[str]
    otherwise: str

    @property
    def what(self) -> SafeString:
        """The headline as the end of a sentence such as "It would be refused: …"."""
        return SafeString(self.headline.removeprefix("Refused: ").removeprefix("Failed: "))


def words_for(case: Case) -> Words:
    """Return the row for the request's reason, or for an answer without one."""
    if case.row.reason:
        return WORDS.get(case.row.reason, OF_ANOTHER_RELEASE)
    if case.row.status < 400:
        return ANSWERED
    return ANSWERED_BY_CLUSTER if case.row.upstream_status else REFUSED_BY_PAGE


def explain(case: Case) -> Explanation:
    """Return the headline, the sentences and the buttons for the request."""
    words = words_for(case)
    found = [each for each in (remedy(case) for remedy in words.remedies) if each is not None]
    buttons = [each for each in found if isinstance(each, Button)]
    asks = [each for each in found if isinstance(each, str)]
    return Explanation(fill(words.headline, case), fill(words.says, case), in_order(buttons), asks, words.otherwise)


def fill(text: str, case: Case) -> SafeString:
    """Return the text with its words as HTML, without the gaps of words that are empty."""
    return SafeString(" ".join(text.format_map(Filled(case)).split()))


class Filled(dict[str, str]):
    """The words of a case by name, escaped unless they are HTML."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def __missing__(self, word: str) -> str:
        return conditional_escape(getattr(self.case, word))


def in_order(buttons: Sequence[Button]) -> list[Button]:
    """Return each of the buttons once, those that do harm last."""
    found: dict[tuple[str, str], Button] = {}
    for button in buttons:
        found.setdefault((button.url, button.label), button)
    return sorted(found.values(), key=lambda button: button.danger)

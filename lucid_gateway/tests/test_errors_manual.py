"""docs/errors.md has every error, with every status."""

import re
from collections.abc import Iterator

from lucid_gateway.policy import errors
from testing.servers import ROOT

ROWS = dict(re.findall(r"^\| (\d{4}) \| (.+) \|$", (ROOT / "docs" / "errors.md").read_text(), re.M))


def made(kind: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    """Yield the errors that clients can receive."""
    for error in kind.__subclasses__():
        if error.__module__ == errors.__name__ and error is not errors.ClientLeft:
            yield error
        yield from made(error)


def test_the_manual_has_every_error_with_its_status() -> None:
    missing = [
        error.__name__
        for error in made(errors.GatewayError)
        if not re.search(rf"\b{error.status}\b", ROWS.get(str(error.number), ""))
    ]
    assert missing == []


def test_the_manual_has_no_other_errors() -> None:
    assert set(ROWS) == {str(error.number) for error in made(errors.GatewayError)}

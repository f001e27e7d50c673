"""docs/reliability.md names the test of each promise: it must exist."""

import re
from pathlib import Path

from testing.servers import ROOT

NAMED = re.compile(r"`([\w/]+\.py)(?:::(\w+)(?:\[\w+\])?)?`")


def test_each_promise_has_its_test() -> None:
    named = NAMED.findall((ROOT / "docs" / "reliability.md").read_text())
    missing = [f"{path}::{test}" for path, test in named if not is_there(ROOT / path, test)]

    assert len(named) > 50
    assert missing == []


def is_there(path: Path, test: str) -> bool:
    """Return whether the file has the test, or exists if no test is named."""
    return path.is_file() and (not test or f"def {test}(" in path.read_text())

"""Processes whose clock is wrong, by libfaketime (Debian's package `faketime`)."""

from pathlib import Path

import pytest

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is missing: install Debian's package faketime")


def clock_ahead(seconds: int) -> dict[str, str]:
    """Return the environment of a process whose clock is so many seconds ahead, or behind if negative."""
    return {
        "LD_PRELOAD": str(LIBRARY), "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",  # gunicorn's workers show by the times of files that they live
    }  # fmt: skip

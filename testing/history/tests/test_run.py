"""A short run on a single Redis with a fixed seed. `make history` runs ten minutes of it, on any kind of Redis."""

from pathlib import Path

import pytest

from testing.history.__main__ import WRITES, record_run, report
from testing.history.checker import check
from testing.history.operations import Kind

pytestmark = pytest.mark.quiet
SECONDS, SEED = 20.0, 1
OF_NEMESIS = {"worker killed", "worker paused", "gateway killed", "Redis paused", "Redis killed", "FLUSHALL"}


def test_no_rule_is_broken_while_servers_are_killed_paused_and_emptied(tmp_path: Path) -> None:
    history = record_run(tmp_path / "run", seconds=SECONDS, seed=SEED, redis="single")
    verdicts = check(history)

    assert all(verdict.holds for verdict in verdicts), report(history, verdicts)
    assert {one.kind for one in history.operations if one.ok} == set(Kind)
    assert sum(one.ok for one in history.operations if one.kind in WRITES) > 200
    assert len(OF_NEMESIS & {fault.kind for fault in history.faults}) >= 4

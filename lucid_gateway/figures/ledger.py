"""The rows of a gateway that may still change, each with everything that was counted for it so far.

A row is always written whole, so that a repeated write changes nothing: after a failure nobody knows whether the
database has the row.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from lucid_gateway.server.samples import OTHER, SECONDS, Groups, Sample

LENGTHS = (SECONDS, 60, 600, 3600)
OPEN_SECONDS = 60  # a row takes late samples for so long after its end
UNWRITTEN_SECONDS = 600  # a row waits for the database for so long after its end
OFFENDERS = "offenders."
WORKERS = "workers"
# How many counts of each kind of offender a written row has, and how many the ledger has.
WRITTEN_OFFENDERS = {SECONDS: 50, 60: 150, 600: 150, 3600: 150}
MAX_OFFENDERS = 1_000


@dataclass
class Row:
    """The row for `seconds` from `start`. `is_written` is true if the database has its latest counts."""

    seconds: int
    start: int
    groups: Groups = field(default_factory=dict)
    is_written: bool = False

    @property
    def ends(self) -> int:
        return self.start + self.seconds

    def add(self, groups: Mapping[str, Mapping[str, int]]) -> None:
        for group, counts in groups.items():
            into = self.groups.setdefault(group, {})
            for name, count in counts.items():
                into[name] = into.get(name, 0) + count
            if group.startswith(OFFENDERS) and len(into) > 2 * MAX_OFFENDERS:
                self.groups[group] = largest(into, MAX_OFFENDERS)
        self.is_written = False

    def shown(self) -> Groups:
        """Return the counts, of the offenders only those with the most refusals."""
        most = WRITTEN_OFFENDERS[self.seconds]
        return {
            group: largest(counts, most) if group.startswith(OFFENDERS) else counts
            for group, counts in self.groups.items()
        }


def largest(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """Return the `most` largest counts of `<subject> <reason>`; the others are added up as `* <reason>`."""
    if len(counts) <= most:
        return dict(counts)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept, rest = dict(ordered[:most]), ordered[most:]
    others: dict[str, int] = defaultdict(int)
    for name, count in rest:
        others[f"{OTHER} {name.rpartition(' ')[2]}"] += count
    for name, count in others.items():
        kept[name] = kept.get(name, 0) + count
    return kept


@dataclass
class Ledger:
    """The rows by (seconds, start). `life` is new with each start of the gateway, and is part of the rows' keys.

    `merged` are the names of the files whose samples the rows contain. `lost` counts the rows that could not be
    written, and late samples of rows that are over.
    """

    life: str = field(default_factory=lambda: uuid.uuid4().hex)
    rows: dict[tuple[int, int], Row] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    lost: int = 0

    def add(self, sample: Sample, now: float) -> None:
        """Add the counts to the rows for ten seconds, a minute, ten minutes and an hour."""
        for seconds in LENGTHS:
            start = sample.start - sample.start % seconds
            row = self.rows.get((seconds, start))
            if row is None and start + seconds + OPEN_SECONDS < now:
                self.lost += 1
                continue
            if row is None:
                row = self.rows[seconds, start] = Row(seconds, start)
            row.add(sample.groups)

    def note_workers(self, start: int, silent: Mapping[str, int]) -> None:
        """Note in the row of these ten seconds since how many seconds each worker has been silent.

        Longer rows do not have this group, because such numbers have no sum.
        """
        row = self.rows.get((SECONDS, start))
        if row is not None:
            row.groups[WORKERS] = dict(silent)
            row.is_written = False

    def unwritten(self) -> Iterator[tuple[str, Row]]:
        """Yield (key, row) for each row that the database may not have, the newest first."""
        for row in sorted(self.rows.values(), key=lambda row: (-row.start, row.seconds)):
            if not row.is_written:
                yield f"{self.life} {row.seconds} {row.start}", row

    def forget(self, now: float) -> None:
        """Drop the rows that can no longer change, and those that have waited too long for the database."""
        for key, row in list(self.rows.items()):
            if row.ends + (OPEN_SECONDS if row.is_written else UNWRITTEN_SECONDS) < now:
                del self.rows[key]
                self.lost += not row.is_written

    def dump(self) -> bytes:
        rows = [(row.seconds, row.start, row.groups, row.is_written) for row in self.rows.values()]
        return orjson.dumps({"life": self.life, "rows": rows, "merged": self.merged, "lost": self.lost})


def load(data: bytes) -> Ledger:
    """Return the ledger that `dump` made; raise ValueError."""
    try:
        state: dict[str, Any] = orjson.loads(data)
        rows = [Row(*values) for values in state["rows"]]
        return Ledger(state["life"], {(row.seconds, row.start): row for row in rows}, state["merged"], state["lost"])
    except (KeyError, TypeError) as error:
        raise ValueError("this is not a ledger") from error

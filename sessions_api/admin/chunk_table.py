"""The chunks of a session as operators see them: a page of the table, and what is missing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.utils import timezone

from sessions_api.models import Chunk, Session

PAGE = 100
# Of a longer session, only the table says where chunks are missing.
GAPS_READ = 20_000
MAX_RANGES = 10


@dataclass(frozen=True)
class Range:
    """Indexes from `first` to `last`."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first:,}" if self.first == self.last else f"{self.first:,}–{self.last:,}"


@dataclass(frozen=True)
class Row:
    """A chunk, or the indexes that are missing in its place."""

    chunk: Chunk | None = None
    missing: Range | None = None

    @property
    def state(self) -> tuple[str, str]:
        """The state in words, and the tone of its pill."""
        if self.chunk is None:
            return "Missing", "bad"
        if self.chunk.state == Chunk.State.RECORDED:
            return "Recorded", "ok"
        is_live = self.chunk.lease_until is not None and self.chunk.lease_until > timezone.now()
        return ("Uploading", "warn") if is_live else ("Broken off", "bad")


@dataclass(frozen=True)
class ChunkTable:
    """A page of the table from an index on; `previous` and `following` are where the pages beside it begin."""

    rows: list[Row]
    start: int
    previous: int | None
    following: int | None


@dataclass(frozen=True)
class Gaps:
    """How many indexes below the highest recorded one have no chunk, and the first of them, if they are known."""

    missing: int
    ranges: list[Range]


def table_of(session: Session, start: int) -> ChunkTable:
    """Return the page that begins at an index: at most three queries, however long the session is."""
    recorded = list(session.chunks.recorded().filter(index__gte=start).order_by("index")[: PAGE + 1])
    following = recorded[PAGE].index if len(recorded) > PAGE else None
    unfinished = session.chunks.uploading().filter(index__gte=start)
    if following is not None:
        unfinished = unfinished.filter(index__lt=following)
    chunks = sorted([*recorded[:PAGE], *unfinished.order_by("index")[:PAGE]], key=lambda chunk: chunk.index)
    return ChunkTable(list(rows_of(chunks, start)), start, start_before(session, start), following)


def rows_of(chunks: Iterable[Chunk], start: int) -> Iterator[Row]:
    """Yield the chunks, with a row wherever indexes are missing."""
    for chunk in chunks:
        if chunk.index > start:
            yield Row(missing=Range(start, chunk.index - 1))
        yield Row(chunk)
        start = chunk.index + 1


def start_before(session: Session, start: int) -> int | None:
    """Return where the page before an index begins, None for the first page."""
    if start <= 0:
        return None
    before = session.chunks.recorded().filter(index__lt=start).order_by("-index")
    return min(before.values_list("index", flat=True)[:PAGE], default=0)


def gaps_of(session: Session) -> Gaps:
    """Return what is missing; `session.chunk_count` must be settled or counted."""
    indexes = session.chunks.recorded().order_by("index").values_list("index", flat=True)
    highest = indexes.reverse().first()
    missing = 0 if highest is None else max(0, highest + 1 - session.chunk_count)
    if not missing or session.chunk_count > GAPS_READ:
        return Gaps(missing, [])
    return Gaps(missing, ranges_missing(indexes))


def ranges_missing(indexes: Iterable[int]) -> list[Range]:
    """Return the first ranges between the indexes."""
    found, expected = [], 0
    for index in indexes:
        if index > expected:
            found.append(Range(expected, index - 1))
        expected = index + 1
    return found[:MAX_RANGES]

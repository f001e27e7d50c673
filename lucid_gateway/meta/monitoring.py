"""The gateway's metrics over all workers: Prometheus text, or the figures of the last minute."""

import fcntl
from collections.abc import Callable, Iterable
from pathlib import Path

from django.http.request import MediaType
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics

from lucid_gateway.kernel.env import metrics_directory
from lucid_gateway.kernel.metrics_files.directory import locked
from lucid_gateway.kernel.metrics_files.last_minute import FILES, Minute, cells_of, read_minute
from lucid_gateway.server.request_metrics import own_ring

# Media type -> the function that writes it, and the complete Content-Type.
TEXTS: dict[str, tuple[Callable[[CollectorRegistry], bytes], str]] = {
    "application/openmetrics-text": (openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST),
    "text/plain": (generate_latest, CONTENT_TYPE_PLAIN_0_0_4),
}
JSON = "application/json"


def preferred(accepted: Iterable[MediaType]) -> str:
    """Return the first media type that the gateway can write; `accepted` is sorted by the client's preference."""
    for media_type in accepted:
        name = f"{media_type.main_type}/{media_type.sub_type}".lower()
        if name in TEXTS:
            return name
        if name == "text/*":
            return "text/plain"
        if name in (JSON, "application/*", "*/*"):
            return JSON
    return JSON


def exposition(media_type: str) -> tuple[bytes, str]:
    """Return the text of all metrics and its Content-Type, for a media type of TEXTS."""
    write, content_type = TEXTS[media_type]
    directory = metrics_directory()
    if directory is None:
        return write(REGISTRY), content_type
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    with locked(directory, fcntl.LOCK_SH):
        return write(registry), content_type


def active_connections() -> int:
    """Return the number of open client connections."""
    directory = metrics_directory()
    if directory is None:
        return 0
    files = [str(path) for path in directory.glob("gauge_livesum_*.db")]
    found = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    values = [sample.value for metric in found for sample in metric.samples if sample.name == "lucid_connections_open"]
    return int(sum(values))


def last_minute() -> Minute:
    """Return the last minute of all workers, including those that have ended since."""
    directory = metrics_directory()
    if directory is None:
        return read_minute([own_ring().cells])
    return read_minute(filter(None, map(cells_or_none, directory.glob(FILES))))


def cells_or_none(path: Path) -> "memoryview[int] | None":
    """Return the cells of a ring's file, or None if the file has just been removed."""
    try:
        return memoryview(cells_of(path))
    except FileNotFoundError:
        return None


def figures() -> dict[str, float]:
    """Return the figures of the last minute. Times are in milliseconds; the error rate is the share of 5xx answers."""
    minute = last_minute()
    percentiles = {f"response_time_p{p}": round(minute.percentile(p / 100) * 1000, 2) for p in (50, 95, 99)}
    return {
        "requests_per_second": round(minute.requests_per_second, 3),
        **percentiles,
        "error_rate": round(minute.error_rate, 6),
        "active_connections": active_connections(),
    }

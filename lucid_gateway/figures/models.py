"""The rows of figures, which the gateways write and the console reads (decision 0027)."""

import time
import zlib
from collections.abc import Mapping

import orjson
from django.db import models

from lucid_gateway.server.samples import Groups

KEPT_SECONDS = 48 * 3600


class SampleQuerySet(models.QuerySet["Sample"]):
    def over(self, now: float | None = None) -> "SampleQuerySet":
        """Return the rows whose time of 48 hours is over."""
        return self.filter(start__lt=(time.time() if now is None else now) - KEPT_SECONDS)


class Sample(models.Model):
    """What one gateway counted in `seconds` (10, 60, 600 or 3600) from `start`, in seconds since the epoch.

    A gateway that was restarted has the same name, but new rows. The counts are in three columns of compressed JSON,
    because who plots requests needs no tables: `requests`, `instances`, and `tables` of routes and offenders.
    """

    sample_id = models.CharField(max_length=80, primary_key=True)
    gateway = models.CharField(max_length=300)
    seconds = models.PositiveSmallIntegerField()
    start = models.BigIntegerField()
    requests = models.BinaryField()
    instances = models.BinaryField()
    tables = models.BinaryField()

    objects = SampleQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["sample_id"], name="sample_key"),
            models.Index(fields=["seconds", "start"], name="sample_period"),
            models.Index(fields=["start"], name="sample_start"),
        ]

    @property
    def groups(self) -> Groups:
        """The counts by group and name, as in `lucid_gateway.server.samples`."""
        return unpacked(self.requests) | unpacked(self.instances) | unpacked(self.tables)

    def __str__(self) -> str:
        return f"{self.gateway}: {self.seconds} s from {self.start}"


def column_of(group: str) -> str:
    """Return the column that holds a group of counts."""
    if group.startswith(("clusters", "instances", "first_byte ")):
        return "instances"
    return "tables" if group.startswith(("routes", "failed.routes", "offenders.")) else "requests"


def columns(groups: Mapping[str, Mapping[str, int]]) -> dict[str, bytes]:
    """Return the values of the three columns."""
    parts: dict[str, dict[str, Mapping[str, int]]] = {"requests": {}, "instances": {}, "tables": {}}
    for group, counts in groups.items():
        parts[column_of(group)][group] = counts
    return {column: packed(part) for column, part in parts.items()}


def packed(groups: Mapping[str, Mapping[str, int]]) -> bytes:
    return zlib.compress(orjson.dumps(groups), level=1)


def unpacked(data: "bytes | memoryview[int]") -> Groups:
    groups: Groups = orjson.loads(zlib.decompress(data))
    return groups

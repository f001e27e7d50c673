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
    """What one gateway counted in `seconds` (10, 60 or 600) from `start`, in seconds since the epoch.

    A gateway that was restarted has the same name, but new rows. `data` is compressed JSON: a quarter of the size.
    """

    sample_id = models.CharField(max_length=80, primary_key=True)
    gateway = models.CharField(max_length=300)
    seconds = models.PositiveSmallIntegerField()
    start = models.BigIntegerField()
    data = models.BinaryField()

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
        return unpacked(self.data)

    def __str__(self) -> str:
        return f"{self.gateway}: {self.seconds} s from {self.start}"


def packed(groups: Mapping[str, Mapping[str, int]]) -> bytes:
    return zlib.compress(orjson.dumps(groups), level=1)


def unpacked(data: "bytes | memoryview[int]") -> Groups:
    groups: Groups = orjson.loads(zlib.decompress(data))
    return groups

from django.db import models


class Revision(models.Model):
    """The revision of a table that each worker keeps in memory: a new random value before and after each write."""

    table = models.CharField(max_length=40, primary_key=True)
    value = models.UUIDField()

    def __str__(self) -> str:
        return f"{self.table} {self.value}"

"""How often an address was refused in the same way."""

from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

from lucid_gateway.explorer.cases.caller import CallerWords
from lucid_gateway.explorer.conditions import Equal
from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.operators.numbers import thousands

MAX_ALIKE = 1_000
HOUR_MS = 3_600_000


class FrequencyWords(CallerWords):
    """How often the address was refused like this."""

    @cached_property
    def alike(self) -> int:
        """How many requests of this address were refused for the same reason in the hour before, this one included."""
        if not self.row.address_key or not self.row.reason:
            return 1
        condition = Equal("address_key", self.row.address_key)
        keys = KeptRequest.objects.filter(**condition.lookups(), pk__lte=self.row.pk, pk__gt=self.hour_before)
        reasons = list(keys.order_by("-pk").values_list("reason", flat=True)[:MAX_ALIKE])
        return reasons.count(self.row.reason)

    @property
    def hour_before(self) -> Any:
        return key_at(datetime.fromtimestamp(self.row.started_at.timestamp() - HOUR_MS / 1000, UTC))

    @property
    def how_often(self) -> SafeString:
        """How often the address was refused like this, as a sentence."""
        if self.alike < 2:
            return format_html("It is the only such request of {} in the hour before.", self.address)
        more = "at least " if self.alike >= MAX_ALIKE else ""
        return format_html(
            "It is one of {}{} such requests of {} within an hour.", more, thousands(self.alike), self.address
        )

"""The cluster and the instances that were to answer a request."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

from lucid_gateway.explorer.cases.request import RequestWords
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.naming import link
from lucid_gateway.explorer.words import clock, is_past
from lucid_gateway.operators.links import page
from lucid_gateway.operators.numbers import duration
from lucid_gateway.policy.reasons import REASONS
from proxy.models import Maintenance

MAX_EARLIER = 100  # rows that are read to find the last failure


class ClusterWords(RequestWords):
    """Who was asked for the answer, and what came of it."""

    @property
    def cluster(self) -> SafeString:
        name = self.row.cluster or (self.forwarded.cluster if self.forwarded else "the cluster")
        clusters = page("proxy_maintenance_changelist")
        return link(f"{clusters}#{name}" if clusters and self.row.cluster else clusters, name)

    @property
    def instance(self) -> SafeString:
        """The instance that was asked last, with a link to the requests that went there."""
        if not self.row.instance:
            return SafeString("no instance")
        return link(page("requests", instance=self.row.instance), self.row.instance)

    @property
    def next_attempt(self) -> SafeString:
        """When the gateway asks an instance again, as a sentence."""
        if self.retry_at is None:
            return SafeString("")
        verb = "was due" if is_past(self.retry_at) else "is due"
        return format_html("Its next attempt {} at {}.", verb, clock(self.retry_at))

    @property
    def last_failure(self) -> SafeString:
        """Which instance of the cluster failed last before this request, and how, as a sentence."""
        earlier = KeptRequest.objects.filter(cluster=self.row.cluster, pk__lt=self.row.pk).order_by("-pk")
        for instance, reason, at in earlier.values_list("instance", "reason", "started_at")[:MAX_EARLIER]:
            if reason.startswith("instance_") and reason in REASONS:
                how = REASONS[reason].text
                return format_html("The last one was {} at {}: {}{}", instance, clock(at), how[0].lower(), how[1:])
        return SafeString("")

    @property
    def tries(self) -> str:
        """How many instances were tried, as a sentence."""
        attempts: Sequence[Any] = self.row.details.get("attempts", [])
        if len(attempts) < 2:
            return ""
        return f"The gateway tried {len(attempts)} times: {', '.join(each['instance'] for each in attempts)}."

    @property
    def waited(self) -> SafeString:
        """Whether the client left before its answer began, as a sentence."""
        if not self.row.cluster:
            return SafeString("")
        if self.row.upstream_status is None:
            return format_html("Its request had been sent to {}, which had not answered yet.", self.instance)
        taken = duration(self.row.upstream_ms or 0)
        return format_html("{} had answered {} after {}.", self.instance, self.row.upstream_status, taken)

    @cached_property
    def maintenance(self) -> Maintenance | None:
        """What keeps the cluster, or the instance that was asked last, out of service now."""
        rows = Maintenance.objects.in_force().filter(cluster=self.row.cluster)
        return next((row for row in rows.order_by("instance") if row.instance in ("", self.row.instance)), None)

    @property
    def opens(self) -> SafeString:
        """Who closed the cluster and until when, or that it is back, as sentences."""
        row = self.maintenance
        if row is None:
            return SafeString("It has been put back into service since.")
        ends = format_html("until {}", clock(row.ends_at)) if row.ends_at else "until somebody puts it back"
        return format_html(
            "{} took it out at {}, {}: “{}”.", self.person(row.created_by), clock(row.starts_at), ends, row.reason
        )

"""The request and response bodies of the admin endpoints for clusters."""

from typing import Any
from uuid import UUID

from rest_framework import serializers

from lucid_gateway.api.fields import TimestampField
from proxy.clusters import Cluster, find_instance
from proxy.models import Maintenance
from proxy.operators.overview import BREAKERS, CLOSED, DEGRADED, HEALTHS, OPEN
from ratelimit.serializers import FutureField

UNCONFIGURED = "The cluster has no such instance."


class MaintenanceSerializer(serializers.ModelSerializer[Maintenance]):
    """A period in which a cluster, or one of its instances, gets no new requests."""

    state = serializers.ChoiceField(["coming", "in_force", "over"])

    class Meta:
        model = Maintenance
        fields = (
            "maintenance_id", "cluster", "instance", "kind", "state", "reason", "starts_at", "ends_at", "created_by",
            "created_at",
        )  # fmt: skip
        read_only_fields = fields


class InstanceSerializer(serializers.Serializer[Any]):
    """An instance. Counts are the sums of all workers of all gateways since each started, null if no worker reports."""

    url = serializers.CharField()
    state = serializers.ChoiceField([OPEN, CLOSED], help_text="Depends on maintenance only")
    closed_for = serializers.ChoiceField(Maintenance.Kind.choices, allow_null=True)
    workers = serializers.IntegerField(help_text="Number of workers that report on it")
    in_flight = serializers.IntegerField(allow_null=True, help_text="Requests in progress")
    breaker = serializers.ChoiceField(BREAKERS, help_text="The worst state that a worker reports")
    health = serializers.ChoiceField(HEALTHS, help_text="The worst health that a worker reports")
    requests = serializers.IntegerField(allow_null=True)
    failures = serializers.IntegerField(allow_null=True)
    down_since = TimestampField(allow_null=True, help_text="Since when the first of the workers finds it down")
    last_error = serializers.CharField(help_text="Why a request or a health check failed last, in words; may be empty")
    last_error_at = TimestampField(allow_null=True)


class ClusterSerializer(serializers.Serializer[Any]):
    """A cluster, its instances, and its maintenance in force or scheduled."""

    name = serializers.CharField()
    service = serializers.CharField()
    state = serializers.ChoiceField([OPEN, DEGRADED, CLOSED], help_text="Depends on maintenance only")
    instances = InstanceSerializer(many=True)
    maintenance = MaintenanceSerializer(many=True)


class ClustersSerializer(serializers.Serializer[None]):
    """The answer to GET /admin/clusters."""

    clusters = ClusterSerializer(many=True)


class InstanceField(serializers.CharField):
    """The address of an instance of `cluster` in the context, normalised; empty means the whole cluster."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_length=300, allow_blank=True, default="", help_text="Its address; default: the whole cluster", **kwargs
        )

    def to_internal_value(self, data: Any) -> str:
        """Return the normalised address; refuse one that the cluster does not have."""
        text, cluster = super().to_internal_value(data), self.context["cluster"]
        if not text:
            return text
        if found := find_instance(cluster, text):
            return found.url
        if not self.was_configured(cluster, text):
            raise serializers.ValidationError(UNCONFIGURED, code="invalid_choice")
        return text

    def was_configured(self, cluster: Cluster, text: str) -> bool:
        """Return whether to accept an address that is not configured."""
        return False


class OnceConfiguredField(InstanceField):
    """An instance that may have left the configuration while its maintenance has not ended."""

    def was_configured(self, cluster: Cluster, text: str) -> bool:
        return Maintenance.objects.not_over().filter(cluster=cluster.name, instance=text).exists()


class NewMaintenanceSerializer(serializers.Serializer[None]):
    """POST /admin/clusters/{name}/maintenance; a start in the past means now."""

    instance = InstanceField()  # type: ignore[assignment]  # the metaclass moves it from here to `fields`
    kind = serializers.ChoiceField(Maintenance.Kind.choices)
    starts_at = TimestampField(required=False, allow_null=True, default=None, help_text="Default: now")
    ends_at = FutureField(required=False, allow_null=True, default=None, help_text="Default: until it is ended")
    reason = serializers.CharField(max_length=200)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse an end that is not after the start, as the model does."""
        Maintenance(cluster=self.context["cluster"].name, **attrs).clean()
        return attrs


class KeyField(serializers.UUIDField):
    """A UUID; anything else is refused with the code `invalid_uuid`."""

    def to_internal_value(self, data: Any) -> UUID:
        try:
            return super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError("Expected a UUID.", code="invalid_uuid") from error


class MaintenanceQuery(serializers.Serializer[None]):
    """The query of DELETE /admin/clusters/{name}/maintenance."""

    instance = OnceConfiguredField()  # type: ignore[assignment]  # as above
    maintenance_id = KeyField(required=False, help_text="End only this maintenance")

"""The shapes of the admin endpoints for limits and addresses."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils import timezone
from rest_framework import serializers

from lucid_gateway.api.fields import TimestampField
from lucid_gateway.api.pagination import ListQuery, PaginationSerializer
from lucid_gateway.policy.tiers import TIERS
from ratelimit.models import SUBJECT, AddressRule, LimitRule, as_network, tier_choices
from ratelimit.usage import Usage


class NetworkField(serializers.CharField):
    """An address or a network, in its canonical form."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=50, help_text="An address, or a network such as 192.0.2.0/24", **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """Return the network."""
        try:
            return as_network(super().to_internal_value(data))
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages, code="invalid") from error


class FutureField(TimestampField):
    """A time in the future."""

    def to_internal_value(self, value: Any) -> datetime:
        """Return the time; raise ValidationError for one in the past."""
        moment: datetime = super().to_internal_value(value)
        if moment <= timezone.now():
            raise serializers.ValidationError("This time is in the past.", code="invalid_date")
        return moment


class AddressesQuery(ListQuery):
    """The query of GET /admin/blocked-addresses."""

    sortable = ("created_at", "network", "expires_at")
    default_sort = "-created_at"

    kind = serializers.ChoiceField(AddressRule.Kind.choices, required=False)
    network = NetworkField(required=False)


class AddressRuleSerializer(serializers.ModelSerializer[AddressRule]):
    """A rule for a network, with its reason and the evidence."""

    evidence = serializers.DictField()

    class Meta:
        model = AddressRule
        fields = (
            "rule_id", "network", "kind", "observe_only", "reason", "evidence", "refused", "observed", "created_by",
            "created_at", "expires_at",
        )  # fmt: skip
        read_only_fields = fields


class AddressesPageSerializer(serializers.Serializer[None]):
    """The answer to GET /admin/blocked-addresses."""

    blocked_addresses = AddressRuleSerializer(many=True)
    pagination = PaginationSerializer()


class NewAddressRuleSerializer(serializers.Serializer[None]):
    """The body of POST /admin/blocked-addresses."""

    network = NetworkField()
    kind = serializers.ChoiceField(AddressRule.Kind.choices, default=AddressRule.Kind.DENY)
    observe_only = serializers.BooleanField(
        default=False, help_text="Shadow mode of a rule that denies or blocks: count whom it would refuse"
    )
    reason = serializers.CharField(max_length=200)
    expires_at = FutureField(required=False, allow_null=True, default=None)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse shadow mode for a rule that refuses nobody anyway."""
        try:
            AddressRule(**attrs).clean()
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.message_dict, code="invalid") from error
        return attrs


class NetworkQuery(serializers.Serializer[None]):
    """The query of DELETE /admin/blocked-addresses."""

    network = NetworkField()


class ShadowQuery(serializers.Serializer[None]):
    """The query of GET /admin/shadow-refusals: a tier or a network."""

    tier = serializers.ChoiceField([(tier.name, tier.label) for tier in TIERS.values()], required=False)
    network = NetworkField(required=False)
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse both, or neither, of tier and network."""
        if ("tier" in attrs) == ("network" in attrs):
            raise serializers.ValidationError("Give a tier or a network.", code="required")
        return attrs


class ShadowSubjectSerializer(serializers.Serializer[None]):
    """Someone whose requests would have been refused. A request of a caller counts for a network twice: for its address
    and for its user or API key.
    """

    subject = serializers.CharField(help_text="user:<id>, key:<id> or ip:<address or /64 network>")
    count = serializers.IntegerField(help_text="Requests today (UTC)")


class ShadowRefusalsSerializer(serializers.Serializer[None]):
    """The answer to GET /admin/shadow-refusals, the most frequent first."""

    subjects = ShadowSubjectSerializer(many=True)


class LimitRuleSerializer(serializers.ModelSerializer[LimitRule]):
    """Limits in place of the environment's."""

    class Meta:
        model = LimitRule
        fields = (
            "rule_id", "tier", "subject", "limit", "burst", "concurrent_requests", "daily_quota", "observe_only",
            "reason", "created_by", "created_at", "expires_at",
        )  # fmt: skip
        read_only_fields = fields


class LimitsSerializer(serializers.Serializer[None]):
    """The answer to GET /admin/limits."""

    limits = LimitRuleSerializer(many=True)


class LimitQuery(serializers.Serializer[None]):
    """The query of DELETE /admin/limits."""

    tier = serializers.ChoiceField(tier_choices())
    subject = serializers.CharField(
        max_length=64, allow_blank=True, trim_whitespace=False, default="", validators=[SUBJECT]
    )


class NewLimitRuleSerializer(LimitQuery):
    """The body of POST /admin/limits; a field that is left out keeps the environment's value."""

    limit = serializers.IntegerField(min_value=1, max_value=2_000_000_000, required=False)
    burst = serializers.IntegerField(min_value=0, max_value=2_000_000_000, required=False)
    concurrent_requests = serializers.IntegerField(min_value=0, max_value=1_000_000, required=False)
    daily_quota = serializers.IntegerField(min_value=0, max_value=2_000_000_000, required=False)
    observe_only = serializers.BooleanField(default=False)
    reason = serializers.CharField(max_length=200, allow_blank=True, default="")
    expires_at = FutureField(required=False, allow_null=True, default=None)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a rule that mixes a rate with quota or concurrency."""
        try:
            LimitRule(**attrs).clean()
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages, code="invalid") from error
        return attrs


class TierUsageSerializer(serializers.Serializer[None]):
    """What is used of a tier. For chunk uploads, `limit` is in bytes per second and the other numbers are bytes."""

    tier = serializers.CharField()
    limit = serializers.IntegerField(help_text="Requests in each minute")
    remaining = serializers.IntegerField(help_text="Requests that are left in this minute")
    burst = serializers.IntegerField(help_text="Requests beyond the limit; renewed when none was used for 300 seconds")
    burst_remaining = serializers.IntegerField()
    resets_at = serializers.DateTimeField(help_text="When the next minute begins")


class QuotaUsageSerializer(serializers.Serializer[None]):
    """The requests of this day (UTC) over all tiers."""

    limit = serializers.IntegerField(allow_null=True, help_text="null: there is no quota, and nothing is counted")
    used = serializers.IntegerField()
    resets_at = serializers.DateTimeField()


class ConcurrentUsageSerializer(serializers.Serializer[None]):
    """The requests in progress over all tiers, this one included."""

    limit = serializers.IntegerField(allow_null=True, help_text="null: there is no limit, and nothing is counted")
    used = serializers.IntegerField()


class UsageSerializer(serializers.Serializer[Usage]):
    """The answer to GET /users/me/usage."""

    tiers = TierUsageSerializer(many=True)
    quota = QuotaUsageSerializer()
    concurrent = ConcurrentUsageSerializer()

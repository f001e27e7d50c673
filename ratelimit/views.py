"""The admin API for limits and addresses."""

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from lucid_gateway.api.pagination import page_of
from lucid_gateway.api.requests import caller, parse, parse_query
from ratelimit import serializers as shapes
from ratelimit.endpoints import AdminView
from ratelimit.engine.shadow import network_scope, shadow_subjects_today, tier_scope
from ratelimit.models import AddressRule, LimitRule
from ratelimit.ruling import lift_address_rule, lift_limit_rule, set_address_rule, set_limit_rule


class BlockedAddressesView(AdminView):
    """Networks that are blocked, denied, halved or allowed."""

    permissions = {"GET": "admin:read", "POST": "admin:write", "DELETE": "admin:write"}

    @extend_schema(parameters=[shapes.AddressesQuery], responses=shapes.AddressesPageSerializer, tags=["admin"])
    def get(self, request: Request) -> Response:
        """List the rules in force, with their reasons and the evidence."""
        query = parse_query(shapes.AddressesQuery, request)
        exact = {name: query[name] for name in ("kind", "network") if name in query}
        found = AddressRule.objects.in_force().filter(**exact)
        show = lambda page: shapes.AddressRuleSerializer(page, many=True).data  # noqa: E731
        return Response(page_of(found, query, name="blocked_addresses", show=show))

    @extend_schema(
        request=shapes.NewAddressRuleSerializer, responses={201: shapes.AddressRuleSerializer}, tags=["admin"]
    )
    def post(self, request: Request) -> Response:
        """Deny, block, halve or allow a network, in place of the rule it had."""
        rule = set_address_rule(by=caller(request).user_id, **parse(shapes.NewAddressRuleSerializer, request))
        return Response(shapes.AddressRuleSerializer(rule).data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[shapes.NetworkQuery], request=None, responses={204: None}, tags=["admin"])
    def delete(self, request: Request) -> Response:
        """Lift the rule of a network."""
        lift_address_rule(parse_query(shapes.NetworkQuery, request)["network"], by=caller(request).user_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ShadowRefusalsView(AdminView):
    """What rules and limits in shadow mode would have refused."""

    permissions = {"GET": "admin:read"}

    @extend_schema(parameters=[shapes.ShadowQuery], responses=shapes.ShadowRefusalsSerializer, tags=["admin"])
    def get(self, request: Request) -> Response:
        """List whom the limits of a tier, or the rule of a network, would have refused most often today (UTC)."""
        query = parse_query(shapes.ShadowQuery, request)
        scope = tier_scope(query["tier"]) if "tier" in query else network_scope(query["network"])
        found = [{"subject": name, "count": count} for name, count in shadow_subjects_today(scope, query["limit"])]
        return Response({"subjects": found})


class LimitsView(AdminView):
    """Limits for everyone, a user or an API key, in place of the environment's."""

    permissions = {"GET": "admin:read", "POST": "admin:write", "DELETE": "admin:write"}

    @extend_schema(responses=shapes.LimitsSerializer, tags=["admin"])
    def get(self, request: Request) -> Response:
        """List the rules in force."""
        found = LimitRule.objects.in_force()
        return Response({"limits": shapes.LimitRuleSerializer(found, many=True).data})

    @extend_schema(request=shapes.NewLimitRuleSerializer, responses={201: shapes.LimitRuleSerializer}, tags=["admin"])
    def post(self, request: Request) -> Response:
        """Set the limits of a subject in a tier, in place of those it had; they apply within two seconds."""
        rule = set_limit_rule(by=caller(request).user_id, **parse(shapes.NewLimitRuleSerializer, request))
        return Response(shapes.LimitRuleSerializer(rule).data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[shapes.LimitQuery], request=None, responses={204: None}, tags=["admin"])
    def delete(self, request: Request) -> Response:
        """Lift a rule, so that the limits of the environment apply again."""
        lift_limit_rule(by=caller(request).user_id, **parse_query(shapes.LimitQuery, request))
        return Response(status=status.HTTP_204_NO_CONTENT)

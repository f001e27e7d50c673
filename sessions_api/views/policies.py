"""Endpoints for the caller's trust policies. Staff may read those of other users."""

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.views.idempotent import idempotent
from lucid_gateway.api.pagination import page_of
from lucid_gateway.api.requests import caller, parse, parse_query, uuid_of
from lucid_gateway.policy.errors import NotFound
from ratelimit.endpoints import CallerView
from sessions_api.etags import ETAG, IF_MATCH, IF_NONE_MATCH, etag, expected_version, with_etag
from sessions_api.evaluation import decide
from sessions_api.models import TrustPolicy
from sessions_api.models.policies import TrustPolicyQuerySet
from sessions_api.policies import change_policy, create_policy, delete_policy
from sessions_api.readers import may_read_all, readable_user_id
from sessions_api.serializers import policies as shapes


class PoliciesView(CallerView):
    permissions = {"GET": "session:read", "POST": "session:create"}

    @extend_schema(
        operation_id="trust_policies_list", parameters=[shapes.PoliciesQuery], responses=shapes.PoliciesPageSerializer,
        tags=["trust"],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List the caller's policies. Staff may list another user's with `user_id`."""
        query = parse_query(shapes.PoliciesQuery, request)
        found = policies().owned_by(readable_user_id(caller(request), query.get("user_id")))
        if query["enabled"] is not None:
            found = found.filter(enabled=query["enabled"])
        if name := query.get("name"):
            found = found.filter(name__icontains=name)
        show = lambda page: shapes.PolicySerializer(page, many=True).data  # noqa: E731
        return Response(page_of(found, query, name="policies", show=show))

    @idempotent()
    @extend_schema(
        request=shapes.NewPolicySerializer, responses={201: shapes.PolicySerializer}, parameters=[ETAG], tags=["trust"]
    )
    def post(self, request: Request, resource_id: uuid.UUID | None = None) -> Response:
        """Create a policy; 409 if the caller already has 50."""
        fields = parse(shapes.NewPolicySerializer, request)
        policy = create_policy(caller(request).user_id, policy_id=resource_id, **fields)
        response = answer(request, policy, status.HTTP_201_CREATED)
        response["Location"] = f"/api/v1/trust/policies/{policy.pk}"
        return response


class PolicyView(CallerView):
    permissions = {
        "GET": "session:read", "PUT": "session:update", "PATCH": "session:update", "DELETE": "session:delete",
    }  # fmt: skip

    @extend_schema(
        parameters=[IF_NONE_MATCH, ETAG], responses={200: shapes.PolicySerializer, 304: None}, tags=["trust"]
    )
    def get(self, request: Request, policy_id: str) -> Response:
        """Return a policy. Its owner and staff may read it."""
        return answer(request, readable_policy(request, policy_id))

    @extend_schema(
        request=shapes.NewPolicySerializer, responses=shapes.PolicySerializer, parameters=[IF_MATCH, ETAG],
        tags=["trust"],
    )  # fmt: skip
    def put(self, request: Request, policy_id: str) -> Response:
        """Replace a policy; omitted fields get their defaults."""
        return change(request, policy_id, shapes.NewPolicySerializer)

    @extend_schema(
        request=shapes.PolicyChangesSerializer, responses=shapes.PolicySerializer, parameters=[IF_MATCH, ETAG],
        tags=["trust"],
    )  # fmt: skip
    def patch(self, request: Request, policy_id: str) -> Response:
        """Change some fields of a policy; the list of rules is replaced as a whole."""
        return change(request, policy_id, shapes.PolicyChangesSerializer)

    @extend_schema(parameters=[shapes.DeletionQuery, IF_MATCH], responses={204: None}, tags=["trust"])
    def delete(self, request: Request, policy_id: str) -> Response:
        """Delete a policy; 409 if sessions refer to it, unless `detach` removes those references."""
        policy = own_policy(request, policy_id)
        detach = parse_query(shapes.DeletionQuery, request)["detach"]
        delete_policy(policy, version=expected_version_of(request, policy), detach=detach)
        return Response(status=status.HTTP_204_NO_CONTENT)


class EvaluateView(CallerView):
    permissions = {"POST": "session:read"}

    @extend_schema(request=shapes.QuestionSerializer, responses=shapes.DecisionSerializer, tags=["trust"])
    def post(self, request: Request, policy_id: str) -> Response:
        """Return whether the policy allows an action in a context, which rule decided and why. Changes nothing."""
        policy = readable_policy(request, policy_id)
        decision = decide(policy, **parse(shapes.QuestionSerializer, request))
        return Response(shapes.DecisionSerializer(decision).data)


def readable_policy(request: Request, policy_id: str) -> TrustPolicy:
    """Return a policy that the caller may read: their own, or for staff any; raise NotAUUID or NotFound."""
    reader = caller(request)
    return get_by_id(policies() if may_read_all(reader) else policies().owned_by(reader.user_id), policy_id)


def own_policy(request: Request, policy_id: str) -> TrustPolicy:
    """Return one of the caller's own policies; raise NotAUUID or NotFound."""
    return get_by_id(policies().owned_by(caller(request).user_id), policy_id)


def get_by_id(rows: TrustPolicyQuerySet, policy_id: str) -> TrustPolicy:
    """Return the policy with that id; raise NotAUUID or NotFound."""
    policy = rows.filter(pk=uuid_of(policy_id)).first()
    if policy is None:
        raise NotFound()
    return policy


def policies() -> TrustPolicyQuerySet:
    rows: TrustPolicyQuerySet = TrustPolicy.objects.all()  # mypy infers QuerySet
    return rows


def change(
    request: Request, policy_id: str, shape: type[shapes.NewPolicySerializer | shapes.PolicyChangesSerializer]
) -> Response:
    """Apply the body's changes to the caller's policy; return it with its new entity tag."""
    policy, changes = own_policy(request, policy_id), parse(shape, request)
    return answer(request, change_policy(policy, version=expected_version_of(request, policy), **changes))


def answer(request: Request, policy: TrustPolicy, code: int = status.HTTP_200_OK) -> Response:
    """Return the policy with its entity tag."""
    return with_etag(request, etag_of(policy), Response(shapes.PolicySerializer(policy).data, status=code))


def expected_version_of(request: Request, policy: TrustPolicy) -> int | None:
    """Return the version that If-Match demands, None for any version; raise PreconditionFailed."""
    return expected_version(request, etag_of(policy), policy.version)


def etag_of(policy: TrustPolicy) -> str:
    return etag(policy.pk, policy.version)

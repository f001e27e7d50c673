"""Trust policies: the caller's own, and for staff to read, others'."""

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.views.once import answered_once
from lucid_gateway.api.pagination import page_of
from lucid_gateway.api.requests import caller, parse, parse_query, uuid_of
from lucid_gateway.policy.errors import NotFound
from ratelimit.endpoints import CallerView
from sessions_api.etags import ETAG, IF_MATCH, IF_NONE_MATCH, etag, tagged, version_to_find
from sessions_api.evaluation import decide
from sessions_api.models import TrustPolicy
from sessions_api.models.policies import TrustPolicyQuerySet
from sessions_api.policies import change_policy, create_policy, delete_policy
from sessions_api.readers import reads_all, user_to_read
from sessions_api.serializers import policies as shapes


class PoliciesView(CallerView):
    """The caller's trust policies."""

    permissions = {"GET": "session:read", "POST": "session:create"}

    @extend_schema(
        operation_id="trust_policies_list", parameters=[shapes.PoliciesQuery], responses=shapes.PoliciesPageSerializer,
        tags=["trust"],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List the caller's policies or, for staff with `user_id`, those of a user."""
        query = parse_query(shapes.PoliciesQuery, request)
        found = policies().owned_by(user_to_read(caller(request), query.get("user_id")))
        if query["enabled"] is not None:
            found = found.filter(enabled=query["enabled"])
        if name := query.get("name"):
            found = found.filter(name__icontains=name)
        show = lambda page: shapes.PolicySerializer(page, many=True).data  # noqa: E731
        return Response(page_of(found, query, name="policies", show=show))

    @answered_once()
    @extend_schema(
        request=shapes.NewPolicySerializer, responses={201: shapes.PolicySerializer}, parameters=[ETAG], tags=["trust"]
    )
    def post(self, request: Request, resource_id: uuid.UUID | None = None) -> Response:
        """Make a policy; 409 with 50 of them."""
        fields = parse(shapes.NewPolicySerializer, request)
        policy = create_policy(caller(request).user_id, policy_id=resource_id, **fields)
        response = answer(request, policy, status.HTTP_201_CREATED)
        response["Location"] = f"/api/v1/trust/policies/{policy.pk}"
        return response


class PolicyView(CallerView):
    """One trust policy."""

    permissions = {
        "GET": "session:read", "PUT": "session:update", "PATCH": "session:update", "DELETE": "session:delete",
    }  # fmt: skip

    @extend_schema(
        parameters=[IF_NONE_MATCH, ETAG], responses={200: shapes.PolicySerializer, 304: None}, tags=["trust"]
    )
    def get(self, request: Request, policy_id: str) -> Response:
        """Return a policy, to its owner and to staff."""
        return answer(request, policy_to_read(request, policy_id))

    @extend_schema(
        request=shapes.NewPolicySerializer, responses=shapes.PolicySerializer, parameters=[IF_MATCH, ETAG],
        tags=["trust"],
    )  # fmt: skip
    def put(self, request: Request, policy_id: str) -> Response:
        """Replace a policy; what is left out gets its default."""
        return change(request, policy_id, shapes.NewPolicySerializer)

    @extend_schema(
        request=shapes.PolicyChangesSerializer, responses=shapes.PolicySerializer, parameters=[IF_MATCH, ETAG],
        tags=["trust"],
    )  # fmt: skip
    def patch(self, request: Request, policy_id: str) -> Response:
        """Change parts of a policy; rules are replaced as a whole."""
        return change(request, policy_id, shapes.PolicyChangesSerializer)

    @extend_schema(parameters=[shapes.DeletionQuery, IF_MATCH], responses={204: None}, tags=["trust"])
    def delete(self, request: Request, policy_id: str) -> Response:
        """Delete a policy; 409 if sessions refer to it, unless `detach` takes it from them."""
        policy = own_policy(request, policy_id)
        detach = parse_query(shapes.DeletionQuery, request)["detach"]
        delete_policy(policy, version=asked_version(request, policy), detach=detach)
        return Response(status=status.HTTP_204_NO_CONTENT)


class EvaluateView(CallerView):
    """What a policy says."""

    permissions = {"POST": "session:read"}

    @extend_schema(request=shapes.QuestionSerializer, responses=shapes.DecisionSerializer, tags=["trust"])
    def post(self, request: Request, policy_id: str) -> Response:
        """Say whether the policy allows an action in a context, by which rule and why; nothing is changed."""
        policy = policy_to_read(request, policy_id)
        decision = decide(policy, **parse(shapes.QuestionSerializer, request))
        return Response(shapes.DecisionSerializer(decision).data)


def policy_to_read(request: Request, policy_id: str) -> TrustPolicy:
    """Return one of the caller's policies, to staff anybody's; raise NotAUUID or NotFound."""
    who = caller(request)
    return one_of(policies() if reads_all(who) else policies().owned_by(who.user_id), policy_id)


def own_policy(request: Request, policy_id: str) -> TrustPolicy:
    """Return one of the caller's own policies; raise NotAUUID or NotFound."""
    return one_of(policies().owned_by(caller(request).user_id), policy_id)


def one_of(rows: TrustPolicyQuerySet, policy_id: str) -> TrustPolicy:
    """Return the policy of that id; raise NotAUUID or NotFound."""
    policy = rows.filter(pk=uuid_of(policy_id)).first()
    if policy is None:
        raise NotFound()
    return policy


def policies() -> TrustPolicyQuerySet:
    """Return everybody's policies."""
    rows: TrustPolicyQuerySet = TrustPolicy.objects.all()
    return rows


def change(
    request: Request, policy_id: str, shape: type[shapes.NewPolicySerializer | shapes.PolicyChangesSerializer]
) -> Response:
    """Change the caller's policy as the body says; answer it with its new tag."""
    policy, changes = own_policy(request, policy_id), parse(shape, request)
    return answer(request, change_policy(policy, version=asked_version(request, policy), **changes))


def answer(request: Request, policy: TrustPolicy, code: int = status.HTTP_200_OK) -> Response:
    """Return the policy with its tag."""
    return tagged(request, tag_of(policy), Response(shapes.PolicySerializer(policy).data, status=code))


def asked_version(request: Request, policy: TrustPolicy) -> int | None:
    """Return the version that alone may be changed, None for any; raise PreconditionFailed."""
    return version_to_find(request, tag_of(policy), policy.version)


def tag_of(policy: TrustPolicy) -> str:
    """Return the policy's strong tag."""
    return etag(policy.pk, policy.version)

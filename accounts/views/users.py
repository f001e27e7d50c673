"""Registration, the caller's own account and API keys, and other users."""

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_keys import create_api_key, revoke_api_key
from accounts.models import ApiKey
from accounts.serializers import credentials, users
from accounts.users.profile import delete_account, update_profile
from accounts.users.registration import register
from accounts.views.api import account_of, user_or_404
from accounts.views.idempotent import idempotent
from lucid_gateway.api.permissions import HasPermission, IsSelfOrReadsUsers, SignedIn
from lucid_gateway.api.requests import caller, parse
from ratelimit.endpoints import CallerView, PublicView, SignedInView
from ratelimit.serializers import UsageSerializer
from ratelimit.usage import usage_of


class UsersView(PublicView):
    """Registers users."""

    @extend_schema(request=users.RegistrationSerializer, responses={201: users.UserSerializer}, tags=["users"])
    def post(self, request: Request) -> Response:
        """Register an account; 409 if the email or the username is taken."""
        user = register(**parse(users.RegistrationSerializer, request))
        return Response(users.UserSerializer(user).data, status=status.HTTP_201_CREATED)


class OwnProfileView(CallerView):
    """The caller's own account."""

    permissions = {"GET": "user:read", "PUT": "user:update", "PATCH": "user:update"}

    def get_permissions(self) -> list[HasPermission | SignedIn]:
        """Allow changes and deletion only with an access token, not with an API key."""
        return [HasPermission()] if self.request.method in ("GET", "HEAD") else [SignedIn(), HasPermission()]

    @extend_schema(responses=users.UserSerializer, tags=["users"])
    def get(self, request: Request) -> Response:
        """Return the caller's profile."""
        return Response(users.UserSerializer(account_of(request)).data)

    @extend_schema(request=users.ProfileSerializer, responses=users.UserSerializer, tags=["users"])
    def put(self, request: Request) -> Response:
        """Replace the caller's profile; a new email takes effect once it is confirmed from its mailbox."""
        return self.update(request, partial=False)

    @extend_schema(request=users.ProfileSerializer, responses=users.UserSerializer, tags=["users"])
    def patch(self, request: Request) -> Response:
        """Change parts of the caller's profile; a new email takes effect once it is confirmed from its mailbox."""
        return self.update(request, partial=True)

    def update(self, request: Request, *, partial: bool) -> Response:
        """Change the fields that were sent; a PUT clears first and last names that it omits."""
        cleared = {} if partial else {"first_name": "", "last_name": ""}
        data = cleared | parse(users.ProfileSerializer, request, partial=partial)
        return Response(users.UserSerializer(update_profile(account_of(request), **data)).data)

    @extend_schema(responses={204: None}, tags=["users"])
    def delete(self, request: Request) -> Response:
        """Delete the account with its personal data, for good; all logins and API keys end. 409 for staff."""
        delete_account(account_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class OwnUsageView(CallerView):
    """What the caller has used of its limits."""

    permissions = {"GET": "user:read"}

    @extend_schema(responses=UsageSerializer, tags=["users"])
    def get(self, request: Request) -> Response:
        """Return what the user or, with an API key, the key has used of its limits; `tiers` are those that apply."""
        return Response(UsageSerializer(usage_of(caller(request))).data)


class UserView(CallerView):
    """The account of a user."""

    permission_classes = [IsSelfOrReadsUsers]

    @extend_schema(responses=users.UserSerializer, tags=["users"])
    def get(self, request: Request, user_id: str) -> Response:
        """Return a user; only the user and staff may read it."""
        return Response(users.UserSerializer(user_or_404(user_id)).data)


class ApiKeysView(SignedInView):
    """The caller's API keys."""

    permissions = {"GET": "user:read", "POST": "user:update"}

    @extend_schema(responses=credentials.ApiKeysSerializer, tags=["users"])
    def get(self, request: Request) -> Response:
        """List the caller's API keys, without their secrets."""
        keys = ApiKey.objects.owned_by(caller(request).user_id).filter(revoked_at=None)
        return Response({"api_keys": credentials.ApiKeySerializer(keys, many=True).data})

    @idempotent(hidden="api_key")
    @extend_schema(
        request=credentials.NewApiKeySerializer, responses={201: credentials.CreatedApiKeySerializer}, tags=["users"]
    )
    def post(self, request: Request, resource_id: uuid.UUID | None = None) -> Response:
        """Create an API key with a subset of the caller's permissions. Only this answer shows the key."""
        data = parse(credentials.NewApiKeySerializer, request, permissions=caller(request).permissions)
        key, text = create_api_key(account_of(request), **data, resource_id=resource_id)
        answer = credentials.ApiKeySerializer(key).data | {"api_key": text or None}
        return Response(answer, status=status.HTTP_201_CREATED)


class ApiKeyView(SignedInView):
    """One of the caller's API keys."""

    permissions = {"DELETE": "user:update"}

    @extend_schema(responses={204: None}, tags=["users"])
    def delete(self, request: Request, key_id: str) -> Response:
        """Revoke the key, from its next request on."""
        revoke_api_key(caller(request).user_id, key_id)
        return Response(status=status.HTTP_204_NO_CONTENT)

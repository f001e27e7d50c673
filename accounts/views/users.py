"""Accounts: opening one, the caller's own, and others'."""

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
from accounts.views.once import answered_once
from lucid_gateway.api.permissions import HasPermission, IsSelfOrReadsUsers, SignedIn
from lucid_gateway.api.requests import caller, parse
from ratelimit.endpoints import CallerView, PublicView, SignedInView


class UsersView(PublicView):
    """Opens accounts."""

    @extend_schema(request=users.RegistrationSerializer, responses={201: users.UserSerializer}, tags=["users"])
    def post(self, request: Request) -> Response:
        """Open an account; 409 if the email or the username is taken."""
        user = register(**parse(users.RegistrationSerializer, request))
        return Response(users.UserSerializer(user).data, status=status.HTTP_201_CREATED)


class OwnProfileView(CallerView):
    """The caller's own account."""

    permissions = {"GET": "user:read", "PUT": "user:update", "PATCH": "user:update"}

    def get_permissions(self) -> list[HasPermission | SignedIn]:
        """Keep API keys from changing the email or deleting the account."""
        return [HasPermission()] if self.request.method in ("GET", "HEAD") else [SignedIn(), HasPermission()]

    @extend_schema(responses=users.UserSerializer, tags=["users"])
    def get(self, request: Request) -> Response:
        """Return the caller's profile."""
        return Response(users.UserSerializer(account_of(request)).data)

    @extend_schema(request=users.ProfileSerializer, responses=users.UserSerializer, tags=["users"])
    def put(self, request: Request) -> Response:
        """Replace the caller's profile; a new email counts once it has been confirmed from its mailbox."""
        return self.update(request, partial=False)

    @extend_schema(request=users.ProfileSerializer, responses=users.UserSerializer, tags=["users"])
    def patch(self, request: Request) -> Response:
        """Change parts of the caller's profile; a new email counts once it has been confirmed from its mailbox."""
        return self.update(request, partial=True)

    def update(self, request: Request, *, partial: bool) -> Response:
        """Change what was sent; a PUT empties the names that it leaves out."""
        emptied = {} if partial else {"first_name": "", "last_name": ""}
        data = emptied | parse(users.ProfileSerializer, request, partial=partial)
        return Response(users.UserSerializer(update_profile(account_of(request), **data)).data)

    @extend_schema(responses={204: None}, tags=["users"])
    def delete(self, request: Request) -> Response:
        """Delete the account: personal data is gone for good, all logins and API keys end; 409 for staff."""
        delete_account(account_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class UserView(CallerView):
    """Somebody's account."""

    permission_classes = [IsSelfOrReadsUsers]

    @extend_schema(responses=users.UserSerializer, tags=["users"])
    def get(self, request: Request, user_id: str) -> Response:
        """Return a user, to themselves and to staff."""
        return Response(users.UserSerializer(user_or_404(user_id)).data)


class ApiKeysView(SignedInView):
    """The caller's API keys."""

    permissions = {"GET": "user:read", "POST": "user:update"}

    @extend_schema(responses=credentials.ApiKeysSerializer, tags=["users"])
    def get(self, request: Request) -> Response:
        """List the caller's API keys; their secrets are not kept."""
        keys = ApiKey.objects.owned_by(caller(request).user_id).filter(revoked_at=None)
        return Response({"api_keys": credentials.ApiKeySerializer(keys, many=True).data})

    @answered_once(hidden="api_key")
    @extend_schema(
        request=credentials.NewApiKeySerializer, responses={201: credentials.CreatedApiKeySerializer}, tags=["users"]
    )
    def post(self, request: Request, resource_id: uuid.UUID | None = None) -> Response:
        """Create an API key with some of the caller's permissions; the answer shows it, this once."""
        data = parse(credentials.NewApiKeySerializer, request, permissions=caller(request).permissions)
        key, text = create_api_key(account_of(request), **data, resource_id=resource_id)
        answer = credentials.ApiKeySerializer(key).data | {"api_key": text or None}
        return Response(answer, status=status.HTTP_201_CREATED)


class ApiKeyView(SignedInView):
    """One of the caller's API keys."""

    permissions = {"DELETE": "user:update"}

    @extend_schema(responses={204: None}, tags=["users"])
    def delete(self, request: Request, key_id: str) -> Response:
        """Revoke the key; it stops with its next request."""
        revoke_api_key(caller(request).user_id, key_id)
        return Response(status=status.HTTP_204_NO_CONTENT)

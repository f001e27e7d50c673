"""The account endpoints: each parses, makes one call and answers."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import serializers as shapes
from accounts.answers import tokens_answer
from accounts.callers import caller_of
from accounts.login import CODE_LIFETIME_SECONDS, finish_login, start_login
from accounts.logout import log_out
from accounts.models import User
from accounts.registration import register
from accounts.tokens import Device, refresh_tokens
from lucid_gateway.errors import Unauthenticated
from ratelimit.client_address import client_address
from ratelimit.throttling import PublicThrottle


def device_of(request: Request) -> Device:
    """Return where the request comes from."""
    return Device(client_address(request._request), request.META.get("HTTP_USER_AGENT", ""))


class PublicView(APIView):
    """An endpoint for anyone, limited by address."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = [PublicThrottle]


def parse(shape: type[Any], request: Request) -> dict[str, Any]:
    """Return the valid data of the request's body; raise DRF's ValidationError."""
    serializer = shape(data=request.data)
    serializer.is_valid(raise_exception=True)
    data: dict[str, Any] = serializer.validated_data
    return data


class LoginView(PublicView):
    """Asks for a login code by mail."""

    @extend_schema(request=shapes.LoginSerializer, responses=shapes.LoginStartedSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Mail a login code to the address, if an account has it; the answer is the same if none does."""
        start_login(**parse(shapes.LoginSerializer, request))
        return Response(
            {"message": "If the address has an account, a code is on its way.", "expires_in": CODE_LIFETIME_SECONDS}
        )


class VerifyView(PublicView):
    """Trades a login code for tokens."""

    @extend_schema(request=shapes.VerifySerializer, responses=shapes.TokensSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Log in with the mailed code: it works once, and bears five guesses."""
        user, pair = finish_login(**parse(shapes.VerifySerializer, request), device=device_of(request))
        return Response(tokens_answer(user, pair))


class RefreshView(PublicView):
    """Trades a refresh token for new tokens."""

    @extend_schema(request=shapes.RefreshSerializer, responses=shapes.TokensSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Use a refresh token up; using it a second time ends the login it belongs to."""
        data = parse(shapes.RefreshSerializer, request)
        user, pair = refresh_tokens(data["refresh_token"], device=device_of(request))
        return Response(tokens_answer(user, pair))


class LogoutView(APIView):
    """Ends a login."""

    @extend_schema(request=shapes.LogoutSerializer, responses=shapes.MessageSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """End the login that the access token belongs to, or all of the caller's logins."""
        log_out(caller_of(request._request), **parse(shapes.LogoutSerializer, request))
        return Response({"message": "Logged out."})


class UsersView(PublicView):
    """Opens accounts."""

    @extend_schema(request=shapes.RegistrationSerializer, responses={201: shapes.UserSerializer}, tags=["users"])
    def post(self, request: Request) -> Response:
        """Open an account; 409 if the email or the username is taken."""
        user = register(**parse(shapes.RegistrationSerializer, request))
        return Response(shapes.UserSerializer(user).data, status=status.HTTP_201_CREATED)


class OwnProfileView(APIView):
    """The caller's own account."""

    @extend_schema(responses=shapes.UserSerializer, tags=["users"])
    def get(self, request: Request) -> Response:
        """Return the caller's profile."""
        user = User.objects.filter(pk=caller_of(request._request).user_id).first()
        if user is None:
            raise Unauthenticated()
        return Response(shapes.UserSerializer(user).data)

"""Login, logout, tokens and signed-in devices."""

from datetime import UTC, datetime

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.login.login import Credentials, finish_login, start_login
from accounts.login.logout import log_out
from accounts.serializers import login as shapes
from accounts.serializers.tokens import tokens_answer
from accounts.tokens.devices import devices_to_show, end_device
from accounts.tokens.issuing import refresh_tokens
from lucid_gateway.api.requests import caller, parse, uuid_of
from ratelimit.endpoints import CallerView, LoginView, PublicView, SignedInView


class StartLoginView(LoginView):
    """Starts a login with a mailed code and link."""

    @extend_schema(request=shapes.LoginSerializer, responses=shapes.LoginStartedSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Mail a login code and link to the address. The answer does not reveal whether an account has the address."""
        return Response(start_login(**parse(shapes.LoginSerializer, request)))


class VerifyView(LoginView):
    """Exchanges a login code or link for tokens."""

    @extend_schema(request=shapes.VerifySerializer, responses=shapes.TokensSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Log in with the mailed code or link, or the password, and the second factors that the account requires.

        A 401 with `details.required` names the missing second factors; the code or link can be used again.
        """
        user, pair = finish_login(Credentials(**parse(shapes.VerifySerializer, request)))
        return Response(tokens_answer(user, pair))


class RefreshView(PublicView):
    """Exchanges a refresh token for new tokens."""

    @extend_schema(request=shapes.RefreshSerializer, responses=shapes.TokensSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair. It works once: a second use ends the login that it belongs to.

        A 503 leaves the token unused. A client that lost the answer may send it once more, 1 to 30 seconds later, from
        the same address and with the same `User-Agent`; the lost pair is revoked.
        """
        user, pair = refresh_tokens(parse(shapes.RefreshSerializer, request)["refresh_token"])
        return Response(tokens_answer(user, pair))


class LogoutView(SignedInView):
    """Ends a login."""

    @extend_schema(request=shapes.LogoutSerializer, responses=shapes.MessageSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """End the login that the access token belongs to, or all of the caller's logins."""
        log_out(caller(request), **parse(shapes.LogoutSerializer, request))
        return Response({"message": "Logged out."})


class StatusView(CallerView):
    """The identity of the caller."""

    permissions = {"GET": "user:read"}

    @extend_schema(responses=shapes.CallerStatusSerializer, tags=["auth"])
    def get(self, request: Request) -> Response:
        """Return the caller's id, role, permissions, kind of credential and its expiry."""
        me = caller(request)
        expires = datetime.fromtimestamp(me.expires_at, tz=UTC) if me.expires_at else None
        return Response(
            {
                "authenticated": True,
                "user_id": me.user_id,
                "role": me.role,
                "permissions": sorted(me.permissions),
                "method": "api_key" if me.by_api_key else "access_token",
                "session_id": me.family or None,
                "expires_at": expires,
            }
        )


class DevicesView(SignedInView):
    """The caller's signed-in devices."""

    @extend_schema(responses=shapes.DevicesSerializer, tags=["auth"])
    def get(self, request: Request) -> Response:
        """List the signed-in devices, most recently used first."""
        me = caller(request)
        devices = devices_to_show(me.user_id)
        shown = shapes.DeviceSerializer(devices, many=True, context={"family": me.family})  # type: ignore[arg-type]  # with many=True it takes several
        return Response({"sessions": shown.data})


class DeviceView(SignedInView):
    """One signed-in device."""

    @extend_schema(responses={204: None}, tags=["auth"])
    def delete(self, request: Request, session_id: str) -> Response:
        """Sign a device out; its tokens end immediately."""
        end_device(caller(request).user_id, uuid_of(session_id))
        return Response(status=status.HTTP_204_NO_CONTENT)

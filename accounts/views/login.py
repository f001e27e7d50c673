"""Logging in and out, and the tokens that come of it."""

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
    """Asks for a login code and link by mail."""

    @extend_schema(request=shapes.LoginSerializer, responses=shapes.LoginStartedSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Mail a login code and link to the address, if an account has it; the answer is the same if none does."""
        return Response(start_login(**parse(shapes.LoginSerializer, request)))


class VerifyView(LoginView):
    """Trades a login code or link for tokens."""

    @extend_schema(request=shapes.VerifySerializer, responses=shapes.TokensSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Log in with the mailed code or link, or the password, and the second factors that the account asks for.

        401 with `details.required` names the second factors that are missing; the code or link can be used again.
        """
        user, pair = finish_login(Credentials(**parse(shapes.VerifySerializer, request)))
        return Response(tokens_answer(user, pair))


class RefreshView(PublicView):
    """Trades a refresh token for new tokens."""

    @extend_schema(request=shapes.RefreshSerializer, responses=shapes.TokensSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Trade a refresh token for a new pair. It works once: a second use ends the login that it belongs to.

        After a 503 it is unused. A client that lost the answer may send it once more, 1 to 30 seconds later, from the
        same address and with the same `User-Agent`; the pair that was lost is revoked.
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
    """Who the gateway takes the caller for."""

    permissions = {"GET": "user:read"}

    @extend_schema(responses=shapes.CallerStatusSerializer, tags=["auth"])
    def get(self, request: Request) -> Response:
        """Say who calls, by what, with which permissions, and until when."""
        who = caller(request)
        expires = datetime.fromtimestamp(who.expires_at, tz=UTC) if who.expires_at else None
        return Response(
            {
                "authenticated": True,
                "user_id": who.user_id,
                "role": who.role,
                "permissions": sorted(who.permissions),
                "method": "api_key" if who.by_api_key else "access_token",
                "session_id": who.family or None,
                "expires_at": expires,
            }
        )


class DevicesView(SignedInView):
    """The caller's signed-in devices."""

    @extend_schema(responses=shapes.DevicesSerializer, tags=["auth"])
    def get(self, request: Request) -> Response:
        """List the devices that are signed in, the one used last first."""
        who = caller(request)
        devices = devices_to_show(who.user_id)
        shown = shapes.DeviceSerializer(devices, many=True, context={"family": who.family})  # type: ignore[arg-type]  # with many=True it takes several
        return Response({"sessions": shown.data})


class DeviceView(SignedInView):
    """One signed-in device."""

    @extend_schema(responses={204: None}, tags=["auth"])
    def delete(self, request: Request, session_id: str) -> Response:
        """Sign a device out; its tokens are dead at once."""
        end_device(caller(request).user_id, uuid_of(session_id))
        return Response(status=status.HTTP_204_NO_CONTENT)

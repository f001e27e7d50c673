"""Password reset and change, and the confirmation of a new email address."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.login.password_reset import change_password, confirm_reset, start_reset
from accounts.serializers import login as shapes
from accounts.serializers.tokens import tokens_answer
from accounts.serializers.users import UserSerializer
from accounts.users.profile import confirm_email
from accounts.views.api import account_of
from lucid_gateway.api.requests import parse
from ratelimit.endpoints import LoginView, SignedInView


class PasswordResetView(LoginView):
    """Starts a password reset."""

    @extend_schema(request=shapes.EmailSerializer, responses=shapes.MailStartedSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Mail a reset link to the address. The answer does not reveal whether an account has the address."""
        return Response(start_reset(**parse(shapes.EmailSerializer, request)))


class PasswordResetConfirmView(LoginView):
    """Completes a password reset."""

    @extend_schema(request=shapes.ResetConfirmSerializer, responses=shapes.MessageSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Set a new password with the mailed link; all logins end. Second factors stay."""
        confirm_reset(**parse(shapes.ResetConfirmSerializer, request))
        return Response({"message": "The password was set. Log in with the new password."})


class PasswordChangeView(SignedInView):
    """Changes the password."""

    @extend_schema(request=shapes.PasswordChangeSerializer, responses=shapes.TokensSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Set a new password, given the current one; all logins end, and the caller gets new tokens."""
        user = account_of(request)
        return Response(tokens_answer(user, change_password(user, **parse(shapes.PasswordChangeSerializer, request))))


class EmailConfirmView(LoginView):
    """Confirms a new email address."""

    @extend_schema(request=shapes.LinkTokenSerializer, responses=UserSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Give the account the email address to which the link was mailed."""
        return Response(UserSerializer(confirm_email(**parse(shapes.LinkTokenSerializer, request))).data)

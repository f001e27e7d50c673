"""Passwords and the confirmation of a new email."""

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
    """Asks for a link that sets a new password."""

    @extend_schema(request=shapes.EmailSerializer, responses=shapes.MailStartedSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Mail a link to the address, if an account has it; the answer is the same if none does."""
        return Response(start_reset(**parse(shapes.EmailSerializer, request)))


class PasswordResetConfirmView(LoginView):
    """Sets a new password."""

    @extend_schema(request=shapes.ResetConfirmSerializer, responses=shapes.MessageSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Set the password with the mailed link; all logins end. Second factors stay."""
        confirm_reset(**parse(shapes.ResetConfirmSerializer, request))
        return Response({"message": "The password was set. Log in with it."})


class PasswordChangeView(SignedInView):
    """Changes the password."""

    @extend_schema(request=shapes.PasswordChangeSerializer, responses=shapes.TokensSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Set a new password with the old one; all logins end, and the caller gets new tokens."""
        user = account_of(request)
        return Response(tokens_answer(user, change_password(user, **parse(shapes.PasswordChangeSerializer, request))))


class EmailConfirmView(LoginView):
    """Confirms a new email address."""

    @extend_schema(request=shapes.LinkTokenSerializer, responses=UserSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Make the address that the link was mailed to the account's."""
        return Response(UserSerializer(confirm_email(**parse(shapes.LinkTokenSerializer, request))).data)

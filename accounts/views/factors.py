"""Second factors: TOTP and hardware wallets."""

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.factors import hardware_wallet, second_factors, totp
from accounts.serializers import credentials as shapes
from accounts.views.api import account_of
from lucid_gateway.api.requests import parse
from ratelimit.endpoints import SignedInView


class TotpView(SignedInView):
    """Enrols in TOTP, and leaves it."""

    @extend_schema(request=None, responses=shapes.EnrolmentSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Make a secret for an authenticator app; it counts once a code has been confirmed."""
        return Response(vars(totp.enrol(account_of(request))))

    @extend_schema(request=shapes.SecondFactorSerializer, responses={204: None}, tags=["auth"])
    def delete(self, request: Request) -> Response:
        """Switch TOTP off, with a code of the app or a recovery code."""
        second_factors.leave_totp(account_of(request), **parse(shapes.SecondFactorSerializer, request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class TotpConfirmView(SignedInView):
    """Switches TOTP on."""

    @extend_schema(request=shapes.TotpSerializer, responses=shapes.RecoveryCodesSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Switch TOTP on with a first code; the answer shows the recovery codes, this once."""
        codes = totp.confirm(account_of(request), parse(shapes.TotpSerializer, request)["totp"])
        return Response({"recovery_codes": codes})


class WalletView(SignedInView):
    """Registers a hardware wallet, and forgets it."""

    @extend_schema(request=shapes.WalletSerializer, responses=shapes.WalletChallengeSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Ask for the challenge that the wallet of the address has to sign."""
        address = parse(shapes.WalletSerializer, request)["address"]
        challenge = hardware_wallet.start_registration(account_of(request), address)
        return Response({"challenge": challenge, "expires_in": hardware_wallet.LIFETIME_SECONDS})

    @extend_schema(request=shapes.RecoveryCodeSerializer, responses={204: None}, tags=["auth"])
    def delete(self, request: Request) -> Response:
        """Forget the wallet, with a recovery code."""
        second_factors.leave_wallet(account_of(request), **parse(shapes.RecoveryCodeSerializer, request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class WalletConfirmView(SignedInView):
    """Proves a hardware wallet's address."""

    @extend_schema(request=shapes.SignatureSerializer, responses=shapes.RecoveryCodesSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Register the address whose wallet signed the challenge; logins ask for its signature from now on."""
        signature = parse(shapes.SignatureSerializer, request)["signature"]
        codes = hardware_wallet.confirm_registration(account_of(request), signature)
        return Response({"recovery_codes": codes})

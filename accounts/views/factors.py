"""Second factors: TOTP and hardware wallets."""

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.factors.hardware_wallet import WALLET
from accounts.factors.table import leave
from accounts.factors.totp import TOTP
from accounts.serializers import credentials as shapes
from accounts.views.api import account_of
from lucid_gateway.api.requests import parse
from ratelimit.endpoints import SignedInView


class TotpView(SignedInView):
    """Enrols in TOTP, and leaves it."""

    @extend_schema(request=None, responses=shapes.EnrolmentSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Make a secret for an authenticator app; it counts once a code has been confirmed."""
        return Response(TOTP.enrol(account_of(request)))

    @extend_schema(request=shapes.SecondFactorSerializer, responses={204: None}, tags=["auth"])
    def delete(self, request: Request) -> Response:
        """Switch TOTP off, with a code of the app or a recovery code."""
        shown = parse(shapes.SecondFactorSerializer, request)
        leave(TOTP, account_of(request), **({"proof": shown["totp"]} if "totp" in shown else shown))
        return Response(status=status.HTTP_204_NO_CONTENT)


class TotpConfirmView(SignedInView):
    """Switches TOTP on."""

    @extend_schema(request=shapes.TotpSerializer, responses=shapes.RecoveryCodesSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Switch TOTP on with a first code; the answer shows the recovery codes, this once."""
        codes = TOTP.confirm(account_of(request), parse(shapes.TotpSerializer, request)["totp"])
        return Response({"recovery_codes": codes})


class WalletView(SignedInView):
    """Registers a hardware wallet, and forgets it."""

    @extend_schema(request=shapes.WalletSerializer, responses=shapes.WalletChallengeSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Ask for the challenge that the wallet of the address has to sign."""
        return Response(WALLET.enrol(account_of(request), **parse(shapes.WalletSerializer, request)))

    @extend_schema(request=shapes.RecoveryCodeSerializer, responses={204: None}, tags=["auth"])
    def delete(self, request: Request) -> Response:
        """Forget the wallet, with a recovery code."""
        leave(WALLET, account_of(request), **parse(shapes.RecoveryCodeSerializer, request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class WalletConfirmView(SignedInView):
    """Proves a hardware wallet's address."""

    @extend_schema(request=shapes.SignatureSerializer, responses=shapes.RecoveryCodesSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Register the address whose wallet signed the challenge; logins ask for its signature from now on."""
        codes = WALLET.confirm(account_of(request), parse(shapes.SignatureSerializer, request)["signature"])
        return Response({"recovery_codes": codes})

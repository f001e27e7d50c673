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
    """Enrols the caller in TOTP, or switches it off."""

    @extend_schema(request=None, responses=shapes.EnrolmentSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Create a secret for an authenticator app; it takes effect once a code of the app is confirmed."""
        return Response(TOTP.enrol(account_of(request)))

    @extend_schema(request=shapes.SecondFactorSerializer, responses={204: None}, tags=["auth"])
    def delete(self, request: Request) -> Response:
        """Switch TOTP off; requires a code of the app or a recovery code."""
        proof = parse(shapes.SecondFactorSerializer, request)
        leave(TOTP, account_of(request), **({"proof": proof["totp"]} if "totp" in proof else proof))
        return Response(status=status.HTTP_204_NO_CONTENT)


class TotpConfirmView(SignedInView):
    """Switches TOTP on."""

    @extend_schema(request=shapes.TotpSerializer, responses=shapes.RecoveryCodesSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Switch TOTP on with a first code. The answer shows the recovery codes, which cannot be read again."""
        codes = TOTP.confirm(account_of(request), parse(shapes.TotpSerializer, request)["totp"])
        return Response({"recovery_codes": codes})


class WalletView(SignedInView):
    """Registers a hardware wallet, or removes it."""

    @extend_schema(request=shapes.WalletSerializer, responses=shapes.WalletChallengeSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Return a challenge that the wallet of the address must sign."""
        return Response(WALLET.enrol(account_of(request), **parse(shapes.WalletSerializer, request)))

    @extend_schema(request=shapes.RecoveryCodeSerializer, responses={204: None}, tags=["auth"])
    def delete(self, request: Request) -> Response:
        """Remove the wallet; requires a recovery code."""
        leave(WALLET, account_of(request), **parse(shapes.RecoveryCodeSerializer, request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class WalletConfirmView(SignedInView):
    """Confirms a hardware wallet by its signature."""

    @extend_schema(request=shapes.SignatureSerializer, responses=shapes.RecoveryCodesSerializer, tags=["auth"])
    def post(self, request: Request) -> Response:
        """Register the wallet that signed the challenge; logins require its signature from now on."""
        codes = WALLET.confirm(account_of(request), parse(shapes.SignatureSerializer, request)["signature"])
        return Response({"recovery_codes": codes})

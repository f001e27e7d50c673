"""The second factors."""

from accounts.factors.factor import SecondFactor
from accounts.factors.hardware_wallet import WALLET
from accounts.factors.totp import TOTP
from accounts.models import User

# In the order in which a login proves them: checking a signature uses nothing up.
FACTORS: tuple[SecondFactor, ...] = (WALLET, TOTP)


def factors_of(user: User) -> tuple[SecondFactor, ...]:
    """Return the factors that logins of the account ask for."""
    return tuple(factor for factor in FACTORS if factor.is_on(user))


def leave(factor: SecondFactor, user: User, **proof: str) -> None:
    """Leave a factor; the recovery codes go with the last one. Raises as `SecondFactor.leave`."""
    factor.leave(user, **proof)
    if not factors_of(user):
        user.recovery_codes.all().delete()

"""The second factors."""

from accounts.factors.factor import SecondFactor
from accounts.factors.hardware_wallet import WALLET
from accounts.factors.totp import TOTP
from accounts.models import User

# In the order in which a login checks them: a signature first, as checking one uses nothing up.
FACTORS: tuple[SecondFactor, ...] = (WALLET, TOTP)


def factors_of(user: User) -> tuple[SecondFactor, ...]:
    """Return the second factors of the account."""
    return tuple(factor for factor in FACTORS if factor.is_on(user))


def leave(factor: SecondFactor, user: User, **proof: str) -> None:
    """Switch a factor off; with the last one, delete the recovery codes. Raises what `SecondFactor.leave` raises."""
    factor.leave(user, **proof)
    if not factors_of(user):
        user.recovery_codes.all().delete()

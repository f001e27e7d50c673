"""The retry rule says after which errors a request may go to another instance. The retry budget limits retries to a
share of the requests, so that they cannot overload a failing cluster.
"""

from functools import cache

from lucid_gateway.policy.errors import GatewayError
from proxy.connection.upstream import NoAnswer

# Methods whose requests change nothing (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SHARE = 0.2
RESERVE = 20.0


def is_repeatable(method: str, *, has_body: bool) -> bool:
    """Return whether a request may be sent again after an instance may have executed it (RFC 9110, section 9.2.2)."""
    return method in SAFE_METHODS and not has_body


def may_try_another_instance(error: GatewayError, *, repeatable: bool) -> bool:
    """Return whether the request may go to another instance after the error: if nothing was sent, always."""
    return getattr(error, "nothing_sent", False) or (repeatable and isinstance(error, NoAnswer))


class RetryBudget:
    """One cluster's retries in this process: each request adds `share` of a retry, and at most `reserve` are saved."""

    def __init__(self, share: float = SHARE, reserve: float = RESERVE) -> None:
        self.share, self.reserve = share, reserve
        self.left = reserve

    def earn(self) -> None:
        """Add a request's share of a retry."""
        self.left = min(self.reserve, self.left + self.share)

    def spend(self) -> bool:
        """Take one retry from the budget; return False if none is left."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


@cache
def budget_of(cluster: str) -> RetryBudget:
    return RetryBudget()

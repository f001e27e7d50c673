"""The retry budget: limits retries to a share of the requests, so that they cannot overload a failing cluster."""

from functools import cache

SHARE = 0.2
RESERVE = 20.0


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

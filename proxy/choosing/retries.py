"""The retry budget: retries are a share of the requests, so that they never multiply the load on who fails already."""

from functools import cache

SHARE = 0.2
RESERVE = 20.0


class RetryBudget:
    """The retries that one cluster's requests have earned in this process: one for five, twenty at most in store."""

    def __init__(self, share: float = SHARE, reserve: float = RESERVE) -> None:
        self.share, self.reserve = share, reserve
        self.left = reserve

    def earn(self) -> None:
        """Count a request."""
        self.left = min(self.reserve, self.left + self.share)

    def spend(self) -> bool:
        """Return whether one retry may be made, and count it."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


@cache
def budget_of(cluster: str) -> RetryBudget:
    """Return this process's budget for the cluster."""
    return RetryBudget()

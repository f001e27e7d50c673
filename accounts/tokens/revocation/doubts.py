"""Whose revocation failed, but may have been applied: the database decides on these callers, and on nobody else.

So a logout that fails while the database is down does not make the worker ask the database about every caller.
"""

import time

from lucid_gateway.kernel.caller import Caller


class Doubts:
    """The ids of users, token families, and API keys in doubt, and since when (by time.monotonic())."""

    def __init__(self) -> None:
        self.since: dict[str, float] = {}

    def add(self, name: str) -> None:
        self.since = {**self.since, name: time.monotonic()}

    def concern(self, caller: Caller) -> bool:
        return bool(self.since) and not self.since.keys().isdisjoint((caller.user_id, caller.family, caller.jti))

    def end(self, *, before: float) -> None:
        """Forget the doubts from before that time: since then everything that is revoked was read."""
        self.since = {name: since for name, since in self.since.items() if since >= before}


doubts = Doubts()

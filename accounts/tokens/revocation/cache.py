"""Whether the copy in Redis is whole.

The copy counts only while its marker is there and names the running server.
"""

import threading
from typing import NamedTuple

from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.policy import keys


class Goal(NamedTuple):
    """What settles doubts: a copy on the server of this run id, by a build that began after so many others."""

    doubts: int
    run_id: bytes
    begun: int


class Copy:
    """What this process knows of the copy in Redis: at first nothing, as an earlier process may have ended before it
    could write what it revoked.
    """

    def __init__(self) -> None:
        self.building = threading.Lock()
        self.doubts = 1
        self.settled = 0
        self.goal: Goal | None = None
        self.believed_on = b""  # the run id of the server whose copy was believed last
        self.asked_again_at = 0.0

    def doubt(self) -> None:
        """Note that the copy may lack something; a build that has begun already does not settle this."""
        self.doubts += 1

    @property
    def suspect(self) -> bool:
        """Whether the copy must be built anew before it is believed."""
        return self.settled < self.doubts

    def aim(self) -> Goal:
        """Return what settles the present doubts; they stay the same however often it is tried."""
        run_id = server_run_id()
        if self.goal is None or (self.goal.doubts, self.goal.run_id) != (self.doubts, run_id):
            self.goal = Goal(self.doubts, run_id, number_at(keys.COPY_BUILDS_BEGUN))
        return self.goal

    def is_built(self, goal: Goal) -> bool:
        """Return whether the copy is whole, and settle the doubts if so; who doubts it believes only a later build."""
        whole = redis_call(lambda redis: redis.get(keys.COPY_MARKER)) == goal.run_id
        if whole and (not self.suspect or number_at(keys.COPY_BUILDS_DONE) > goal.begun):
            self.settle(goal)
            return True
        return False

    def settle(self, goal: Goal) -> None:
        """Believe the copy again, unless somebody has doubted it meanwhile."""
        self.settled, self.goal, self.believed_on = goal.doubts, None, goal.run_id


copy = Copy()


def server_run_id() -> bytes:
    """Return what names the run of the Redis server that is asked; raise RedisUnavailable."""
    return str(redis_call(lambda redis: redis.info("server")["run_id"])).encode()


def number_at(key: str) -> int:
    """Return the number that the key holds, 0 if none."""
    return int(redis_call(lambda redis: redis.get(key)) or 0)

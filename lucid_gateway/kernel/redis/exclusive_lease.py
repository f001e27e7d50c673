"""A lease that one of several processes has at a time: a key in Redis that names its holder, until it expires."""

from pathlib import Path

from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.kernel.redis.script import RedisScript

FOLDER = Path(__file__).parent
extend_script = RedisScript(FOLDER / "lease_extend.lua")
end_script = RedisScript(FOLDER / "lease_end.lua")


def take_lease(key: str, holder: str, *, milliseconds: int) -> bool:
    """Return whether the lease was free, and is the holder's now; raise RedisUnavailable."""
    return bool(redis_call(lambda redis: redis.set(key, holder, nx=True, px=milliseconds)))


def extend_lease(key: str, holder: str, *, milliseconds: int) -> bool:
    """Let the lease end so many milliseconds from now; return False if the holder no longer has it.

    Raises RedisUnavailable.
    """
    return bool(extend_script([key], [holder, milliseconds]))


def end_lease(key: str, holder: str) -> None:
    """End the lease if the holder still has it; raise RedisUnavailable."""
    end_script([key], [holder])

"""A lease that only one process holds at a time: a key in Redis that names the holder until it expires."""

from pathlib import Path

from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.kernel.redis.script import RedisScript

FOLDER = Path(__file__).parent
extend_script = RedisScript(FOLDER / "lease_extend.lua")
end_script = RedisScript(FOLDER / "lease_end.lua")


def take_lease(key: str, holder: str, *, milliseconds: int) -> bool:
    """Take the lease if it is free, and return whether it was; raise RedisUnavailable."""
    return bool(redis_call(key, lambda redis: redis.set(key, holder, nx=True, px=milliseconds)))


def extend_lease(key: str, holder: str, *, milliseconds: int) -> bool:
    """Let the lease expire `milliseconds` from now; return False if the holder has lost it; raise RedisUnavailable."""
    return bool(extend_script([key], [holder, milliseconds]))


def end_lease(key: str, holder: str) -> None:
    """Release the lease if the holder still has it; raise RedisUnavailable."""
    end_script([key], [holder])

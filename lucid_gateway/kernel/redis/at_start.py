"""The check at startup that REDIS_URL leads to what it says: a single server, a Sentinel group or a whole cluster."""

from redis.exceptions import RedisError

from lucid_gateway.kernel.redis.access import cluster, single_server
from lucid_gateway.kernel.redis.cluster import NoCluster, missing_slots
from lucid_gateway.kernel.redis.server import ClusterNode, OwnConnection


def problem() -> str:
    """Return what is wrong with REDIS_URL and what was expected; empty if nothing is, or if no server answers."""
    try:
        if found := cluster():
            owners = found.ask()
            return describe(missing_slots(owners)) if owners else ""
        OwnConnection(single_server).open()
    except NoCluster:
        return "leads to a single server; expected a node of a Redis Cluster, or redis:// instead of redis+cluster://"
    except ClusterNode:
        return "leads to a node of a Redis Cluster; expected redis+cluster://host:port,host:port"
    except RedisError:
        pass
    return ""


def describe(missing: list[tuple[int, int]]) -> str:
    if not missing:
        return ""
    ranges = ", ".join(f"{first}-{last}" for first, last in missing[:3]) + (", ..." if len(missing) > 3 else "")
    expected = "expected one for each of the 16384 slots"
    return f"leads to a Redis Cluster without a node for the slots {ranges}; {expected}"

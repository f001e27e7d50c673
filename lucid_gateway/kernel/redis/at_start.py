"""The check at startup that REDIS_URL leads to what it says: a single server, a Sentinel group or a whole cluster."""

import os
import sys

REFUSED = 86  # exit status of the child process


def refuse_wrong_redis() -> None:
    """End the process with a one-line message if REDIS_URL leads to something else; ignore servers that are down.

    gunicorn's master calls this. The check runs in a child process, because gevent must patch the workers before they
    import the Redis client.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if found := problem():
                sys.stderr.write(f"LUCID_ERR_5004 configuration error: REDIS_URL: {found}\n")
                sys.stderr.flush()
            status = REFUSED if found else 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == REFUSED:
        raise SystemExit(1)


def problem() -> str:
    """Return what is wrong with REDIS_URL and what was expected; empty if nothing is, or if no server answers."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lucid_gateway.settings")
    from redis.exceptions import RedisError  # noqa: PLC0415  # in the child only

    from lucid_gateway.kernel.redis.access import cluster, single_server  # noqa: PLC0415
    from lucid_gateway.kernel.redis.cluster import NoCluster, missing_slots  # noqa: PLC0415
    from lucid_gateway.kernel.redis.server import ClusterNode, OwnConnection  # noqa: PLC0415

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

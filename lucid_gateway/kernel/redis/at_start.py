"""The check at startup that REDIS_URL does not lead to a node of a Redis Cluster."""

import os

from lucid_gateway.kernel.env import ConfigurationError, stop

CLUSTER_NODE = 86  # exit status of the child process


def refuse_cluster_node() -> None:
    """End the process with a one-line message if the server is a node of a cluster; ignore a server that is down.

    gunicorn's master calls this. The check runs in a child process, because gevent must patch the workers before they
    import the Redis client.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = CLUSTER_NODE if leads_to_cluster() else 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == CLUSTER_NODE:
        expected = "expected a single server or a Sentinel group, until clusters are supported"
        stop(ConfigurationError(f"REDIS_URL: leads to a node of a Redis Cluster; {expected}"))


def leads_to_cluster() -> bool:
    """Return whether the server is a node of a Redis Cluster; False if it does not answer."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lucid_gateway.settings")
    from redis.exceptions import RedisError  # noqa: PLC0415  # in the child only

    from lucid_gateway.kernel.redis.access import ClusterNode, OwnConnection  # noqa: PLC0415

    try:
        OwnConnection().open()
    except ClusterNode:
        return True
    except RedisError:
        pass
    return False

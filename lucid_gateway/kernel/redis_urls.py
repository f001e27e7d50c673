"""Addresses of a Redis Cluster: redis+cluster://[user:password@]host:port,host:port[?options], rediss+cluster for TLS.

Each host and port is that of a node; one that answers is enough, as it names the others. The options are redis-py's.
"""

import re

NODE = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})"
CLUSTER = re.compile(rf"rediss?\+cluster://([^/@]*@)?{NODE}(,{NODE})*/?(\?.*)?")
MAX_PORT = 65_535


def is_cluster(url: str) -> bool:
    """Return whether the URL is that of a cluster, valid or not."""
    return url.partition("://")[0] in ("redis+cluster", "rediss+cluster")


def is_valid_cluster(url: str) -> bool:
    """Return whether the URL names at least one node, and nothing that a cluster does not have, such as a database."""
    if not CLUSTER.fullmatch(url):
        return False
    return all(0 < int(node.rpartition(":")[2]) <= MAX_PORT for node in nodes_in(url))


def urls_of_nodes(url: str) -> list[str]:
    """Return the URL of each node that the cluster's URL names."""
    scheme, _, rest = url.partition("+cluster://")
    credentials, separator, _ = rest.rpartition("@")
    options = rest.partition("?")[2]
    return [f"{scheme}://{credentials}{separator}{node}" + (f"?{options}" if options else "") for node in nodes_in(url)]


def nodes_in(url: str) -> list[str]:
    """Return each `host:port` of the cluster's URL."""
    return url.partition("://")[2].partition("?")[0].rpartition("@")[2].rstrip("/").split(",")

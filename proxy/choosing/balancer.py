"""Chooses the instance for a request: the available one with the fewest requests in progress.

Ties go to the instance that was chosen least recently.
"""

import math
import random
from collections.abc import Collection

from lucid_gateway.policy.errors import CircuitOpen, GatewayError
from proxy.choosing.closures import is_closed, refuse_if_closed
from proxy.choosing.instances import InstanceState, states_of
from proxy.clusters import Cluster


def choose(cluster: Cluster, tried: Collection[InstanceState] = ()) -> InstanceState | None:
    """Return the instance to try next, or None if all available ones were tried."""
    states = states_of(cluster)
    available = [state for state in states if state not in tried and accepts_requests(cluster, state)]
    if len(available) <= 1:
        return available[0] if available else None
    # If no instance is healthy, the checks themselves may be wrong, so all instances stay candidates.
    healthy = [state for state in available if state.healthy is not False] or available
    candidates = [state for state in healthy if passes_slow_start(state, among=len(healthy))] or healthy
    return min(candidates, key=lambda state: (state.in_flight, state.last_turn))


def passes_slow_start(state: InstanceState, *, among: int) -> bool:
    """Return whether the instance, one `among` several, may take this request; a recovering one may at random only.

    An instance that has just recovered has the fewest requests in progress, so it would otherwise get all new ones.
    """
    share = state.share()
    return share >= 1 or random.random() < share / among  # noqa: S311


def accepts_requests(cluster: Cluster, state: InstanceState) -> bool:
    """Return whether the breaker admits a request and no operator took the instance out of service."""
    return state.breaker.admits() and not is_closed(cluster.name, state.instance)


def no_instance_error(cluster: Cluster) -> GatewayError:
    """Return the error for a cluster without an available instance; raise ClusterInMaintenance if all are closed."""
    refuse_if_closed(cluster.name)
    in_service = [state for state in states_of(cluster) if not is_closed(cluster.name, state.instance)]
    seconds = min((state.breaker.open_until - state.clock() for state in in_service), default=0.0)
    return CircuitOpen(details={"cluster": cluster.name}, retry_after=max(1, math.ceil(seconds)))

"""Which instance gets a request: of those that are fit, the one with the fewest under way (DESIGN, section 8).

Of several with as few, it is the turn of the one that had none for the longest.
"""

import math
import random
from collections.abc import Collection

from lucid_gateway.policy.errors import CircuitOpen, GatewayError
from proxy.choosing.closures import is_closed, refuse_if_closed
from proxy.choosing.instances import InstanceState, states_of
from proxy.clusters import Cluster


def choose(cluster: Cluster, tried: Collection[InstanceState] = ()) -> InstanceState | None:
    """Return the instance to try next; None if there is none beside those that were tried."""
    states = states_of(cluster)
    fit = [state for state in states if state not in tried and may_be_asked(cluster, state)]
    if len(fit) <= 1:
        return fit[0] if fit else None
    # Where no instance is healthy the checks may be what is wrong: all are tried.
    healthy = [state for state in fit if state.healthy is not False] or fit
    rested = [state for state in healthy if is_rested(state, among=len(healthy))] or healthy
    return min(rested, key=lambda state: (state.in_flight, state.last_turn))


def is_rested(state: InstanceState, *, among: int) -> bool:
    """Return whether it is the turn of an instance that may have just recovered: with the fewest under way `among` so
    many it would get all requests, not its part.
    """
    share = state.share()
    return share >= 1 or random.random() < share / among  # noqa: S311


def may_be_asked(cluster: Cluster, state: InstanceState) -> bool:
    """Return whether the instance takes requests: its breaker admits one, and no operator took it out of service."""
    return state.breaker.admits() and not is_closed(cluster.name, state.instance)


def no_instance(cluster: Cluster) -> GatewayError:
    """Return why none of the cluster's instances may be asked; raise ClusterInMaintenance if operators closed all."""
    refuse_if_closed(cluster.name)
    in_service = [state for state in states_of(cluster) if not is_closed(cluster.name, state.instance)]
    seconds = min((state.breaker.open_until - state.clock() for state in in_service), default=0.0)
    return CircuitOpen(details={"cluster": cluster.name}, retry_after=max(1, math.ceil(seconds)))

"""Takes routes off the edge and puts them back, and writes both to the audit log."""

from accounts.models import User
from lucid_gateway.audit.events import changed, record
from lucid_gateway.policy.errors import NotFound
from proxy.edge.exclusions import edge_routes, excluded_cache
from proxy.models import EdgeExclusion

AT_EDGE, GATEWAY_ONLY = {"served by": "edge and gateway"}, {"served by": "gateway only"}


def take_off_edge(*, path: str, reason: str, by: User | str) -> bool:
    """Make the edge leave a route to the gateway, or all with an empty path; edges follow within two seconds.

    Returns False if it was off already, and then keeps the earlier reason. Raises NotFound for a path that no route of
    the edge has.
    """
    if not edge_routes(path):
        raise NotFound()
    with excluded_cache.changing():
        values = {"reason": reason, "created_by": str(by)}
        _, is_new = EdgeExclusion.objects.get_or_create(path=path, defaults=values)
    if is_new:
        record("edge.off", subject=subject_of(path), actor=by, reason=reason, changes=changed(AT_EDGE, GATEWAY_ONLY))
    return is_new


def put_back_on_edge(*, path: str, by: User | str) -> bool:
    """End what `take_off_edge` began for this path; return False if it was not off.

    A route stays off while all routes are, and the other way round.
    """
    with excluded_cache.changing():
        count, _ = EdgeExclusion.objects.filter(path=path).delete()
    if count:
        record("edge.on", subject=subject_of(path), actor=by, changes=changed(GATEWAY_ONLY, AT_EDGE))
    return bool(count)


def subject_of(path: str) -> str:
    """Return the path as the page of routes shows it and searches for it; that of all routes is their beginning."""
    return f"/api/v1/{path}"

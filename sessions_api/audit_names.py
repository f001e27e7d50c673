"""The names of sessions and trust policies, as the audit log shows them."""

from lucid_gateway.audit.kinds import Concerns
from lucid_gateway.audit.names import finders
from sessions_api.models import Session, TrustPolicy


def session_names(keys: set[str]) -> dict[str, str | None]:
    return {str(key): name for key, name in Session.objects.filter(pk__in=keys).values_list("pk", "name")}


def policy_names(keys: set[str]) -> dict[str, str | None]:
    return {str(key): name for key, name in TrustPolicy.objects.filter(pk__in=keys).values_list("pk", "name")}


def register() -> None:
    """Let the audit log find these names."""
    finders[Concerns.SESSION] = session_names
    finders[Concerns.TRUST_POLICY] = policy_names

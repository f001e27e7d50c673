"""Which staff must add a second factor before they may act as staff."""

from typing import Any

from django.conf import settings


def must_enrol(user: Any) -> bool:
    """Return whether the user, who may be anonymous, is staff without a second factor where staff need one."""
    return settings.ENV.second_factor_required and user.is_staff and not user.has_second_factor

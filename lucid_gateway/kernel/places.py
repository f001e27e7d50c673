"""Places: a user has a number of them for rows of a kind, and a unique key gives each to one row."""

import secrets
from typing import Any

from django.db import IntegrityError, transaction

TRIES = 20


def take_place(row: Any, field: str, *, places: int) -> bool:
    """Save the row on a free one of its user's places, whose number goes into the field; return False if none is free.

    A new row is inserted; of an existing one only the field is written. Raises IntegrityError if it is not about the
    place, such as for a key that is there already.
    """
    is_new = row._state.adding
    how: dict[str, Any] = {"force_insert": True} if is_new else {"update_fields": [field]}
    others = type(row).objects.filter(user_id=row.user_id, **{f"{field}__gte": 0}).order_by()
    for tries_left in reversed(range(TRIES)):
        free = set(range(places)).difference(others.values_list(field, flat=True))
        if not free:
            break
        setattr(row, field, secrets.choice(sorted(free)))  # by chance, so that those who come at once seldom collide
        try:
            with transaction.atomic():
                row.save(**how)
        except IntegrityError:  # somebody has the place, or had it just now
            if not tries_left or (is_new and type(row).objects.filter(pk=row.pk).exists()):
                raise
        else:
            return True
    return False

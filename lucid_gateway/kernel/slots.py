"""A limit on the rows of each user: a row takes one of its user's numbered slots, and a unique key guards each slot."""

import secrets
from typing import Any

from django.db import IntegrityError, transaction

TRIES = 20


def take_slot(row: Any, field: str, *, slots: int) -> bool:
    """Save the row with the number of a free slot in `field`; return False if all of the user's slots are taken.

    A new row is inserted; an existing one is updated in this field only. Raises IntegrityError if another constraint
    fails, such as a primary key that exists.
    """
    is_new = row._state.adding
    options: dict[str, Any] = {"force_insert": True} if is_new else {"update_fields": [field]}
    others = type(row).objects.filter(user_id=row.user_id, **{f"{field}__gte": 0}).order_by()
    for tries_left in reversed(range(TRIES)):
        free = set(range(slots)).difference(others.values_list(field, flat=True))
        if not free:
            break
        setattr(row, field, secrets.choice(sorted(free)))  # random, so that concurrent requests seldom collide
        try:
            with transaction.atomic():
                row.save(**options)
        except IntegrityError:  # another request has just taken the slot
            if not tries_left or (is_new and type(row).objects.filter(pk=row.pk).exists()):
                raise
        else:
            return True
    return False

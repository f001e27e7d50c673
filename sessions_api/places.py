"""Places: a user has a number of them for rows of a kind, and a unique key gives each to one row."""

import secrets
from typing import Any

from django.db import IntegrityError, transaction


def take_place(row: Any, field: str, *, places: int) -> bool:
    """Insert the row on a free one of its user's places, whose number goes into the field; return False if all of them
    are taken.
    """
    others = type(row).objects.filter(user_id=row.user_id, **{f"{field}__gte": 0}).order_by()

    def taken() -> set[int]:
        return set(others.values_list(field, flat=True))

    while free := set(range(places)) - taken():
        place = secrets.choice(sorted(free))  # by chance, so that those who come at once seldom collide
        setattr(row, field, place)
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            if place not in taken():
                raise  # it was not about the place
        else:
            return True
    return False

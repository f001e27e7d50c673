"""When an action is dangerous: it then asks for the operator's password or a code, unless one was entered lately.

Each ModelAdmin lists its dangerous actions in `dangerous_actions`; what is not in the list is not dangerous.
"""

from collections.abc import Callable, Sequence
from typing import Any

# Gets the rows that the action is about; returns whether it is dangerous for them.
Danger = Callable[[Sequence[Any]], bool]


def always(rows: Sequence[Any]) -> bool:
    return True


def several(rows: Sequence[Any]) -> bool:
    """Return whether the action would change more than one row at once."""
    return len(rows) > 1

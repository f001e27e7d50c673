"""What operators should know of a gateway that works: in the log once, in GET /meta/health and on the operator pages.

Each worker notices for itself.
"""

import logging

logger = logging.getLogger(__name__)
current: dict[str, str] = {}


def notice(subject: str, text: str | None) -> None:
    """Show one sentence on the subject from now on, None: no more. A new sentence is logged as a warning."""
    if text is None:
        current.pop(subject, None)
    elif current.get(subject) != text:
        current[subject] = text
        logger.warning(text)


def sentences() -> list[str]:
    """Return what there is to say."""
    return [current[subject] for subject in sorted(current)]

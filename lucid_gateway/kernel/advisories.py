"""Warnings about settings and servers that operators should correct although everything still works.

The log shows a warning once; the health endpoint and the admin pages show it while it holds.
"""

import logging

logger = logging.getLogger(__name__)


class Advisories:
    """This worker's warnings: one sentence for each subject, such as `clock of Redis`."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def set(self, subject: str, text: str) -> None:
        """Show the text until `clear` is called; log it if the subject had none."""
        if subject not in self._texts:
            logger.warning("advisory", extra={"subject": subject, "advice": text})
        self._texts[subject] = text

    def clear(self, subject: str) -> None:
        if self._texts.pop(subject, None) is not None:
            logger.info("advisory no longer holds", extra={"subject": subject})

    def texts(self) -> list[str]:
        """Return the sentences, sorted by subject."""
        return [self._texts[subject] for subject in sorted(self._texts)]


advisories = Advisories()

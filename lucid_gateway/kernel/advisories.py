"""What an operator should change although everything still works: in the log once, and in the health endpoint."""

import logging

logger = logging.getLogger(__name__)


class Advisories:
    """One sentence for each subject, such as `redis`, that this worker has something to say about."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def give(self, subject: str, text: str) -> None:
        """Say so until it is taken back; the log has a line when the subject had none before."""
        if subject not in self._texts:
            logger.warning("advisory", extra={"subject": subject, "advice": text})
        self._texts[subject] = text

    def take_back(self, subject: str) -> None:
        """Say nothing about the subject any more."""
        if self._texts.pop(subject, None) is not None:
            logger.info("advisory no longer holds", extra={"subject": subject})

    def texts(self) -> list[str]:
        """Return the sentences, by subject."""
        return [self._texts[subject] for subject in sorted(self._texts)]


advisories = Advisories()

"""The operator pages of sessions and trust policies: records to look at."""

from sessions_api.admin import policies

__all__ = ["policies"]

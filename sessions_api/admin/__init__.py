"""The operator pages of sessions and trust policies: records to look at."""

from sessions_api.admin import policies, sessions

__all__ = ["policies", "sessions"]

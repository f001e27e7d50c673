"""The operator pages of sessions: records to look at."""

from sessions_api.admin import sessions

__all__ = ["sessions"]

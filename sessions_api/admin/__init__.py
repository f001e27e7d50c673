"""The operator pages of sessions, manifests and trust policies: records to look at."""

from sessions_api.admin import manifests, policies, sessions

__all__ = ["manifests", "policies", "sessions"]

"""Read-only operator pages for sessions, manifests and trust policies."""

from sessions_api.admin import manifests, policies, sessions

__all__ = ["manifests", "policies", "sessions"]

"""Models of sessions, chunks, manifests and trust policies."""

from sessions_api.models.manifests import Manifest
from sessions_api.models.policies import TrustPolicy
from sessions_api.models.sessions import Chunk, Session

__all__ = ["Chunk", "Manifest", "Session", "TrustPolicy"]

"""The operator pages of the clusters."""

from proxy.admin import maintenance

__all__ = ["maintenance"]

"""The operator pages for limits and addresses."""

from ratelimit.admin import addresses, limits

__all__ = ["addresses", "limits"]

"""What Django's admin loads: the pages of the console that belong to a model and span several apps."""

from lucid_gateway.console.user import page

__all__ = ["page"]

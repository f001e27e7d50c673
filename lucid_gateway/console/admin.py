"""What Django's admin loads: the pages of the console that belong to a model and span several apps."""

from lucid_gateway.console import api_key_page, session_page
from lucid_gateway.console.user import page

__all__ = ["api_key_page", "page", "session_page"]

"""The pages behind mailed links. GET and HEAD change nothing; a button on the page posts to the API."""

from functools import cache

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from lucid_gateway.kernel.documents import Document
from ratelimit.public_pages import PublicPage


@cache
def document_of(page: str) -> Document:
    """Render the template of the page once for each process."""
    text = render_to_string(f"accounts/{page}.html")
    return Document(text.encode(), "text/html; charset=utf-8", cache_control="no-store")


class LinkPage(PublicPage):
    """A page with one form; `page` is the name of its template."""

    page = ""

    def document(self) -> Document:
        return document_of(self.page)

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return the page. The link's token is in the URL fragment, which browsers do not send."""
        response = super().get(request)
        response["Referrer-Policy"] = "no-referrer"
        return response

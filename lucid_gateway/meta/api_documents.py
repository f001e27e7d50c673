"""The OpenAPI document, and the two pages that show it."""

from functools import cache
from typing import ClassVar

from csp.constants import SELF
from csp.decorators import csp
from django.template.loader import render_to_string
from django.utils.decorators import method_decorator
from drf_spectacular.generators import SchemaGenerator

from lucid_gateway.kernel.documents import Document, json_document
from ratelimit.public_pages import POLICY, PublicPage

# Swagger UI and Redoc have icons in their style sheets and scripts.
SHOWN = POLICY | {"img-src": [SELF, "data:"]}
# The styles that Redoc inserts into its page: an empty style sheet, which styled-components fill through the CSSOM, and
# that of the scroll bars.
REDOC_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
)
HTML = "text/html; charset=utf-8"


@cache
def openapi_document() -> Document:
    """Return the document in JSON. Generating it takes a tenth of a second, and it is the same for all clients."""
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return json_document(schema, content_type="application/vnd.oai.openapi+json")


@cache
def page(template: str) -> Document:
    return Document(render_to_string(template).encode(), HTML)


class OpenAPIDocument(PublicPage):
    def document(self) -> Document:
        return openapi_document()


@method_decorator(csp(SHOWN), name="dispatch")
class DocumentPage(PublicPage):
    """A page that shows the OpenAPI document."""

    template: ClassVar[str]

    def document(self) -> Document:
        return page(self.template)


class SwaggerPage(DocumentPage):
    template = "docs/swagger.html"


@method_decorator(csp(SHOWN | {"style-src": [SELF, *REDOC_STYLES], "worker-src": ["blob:"]}), name="dispatch")
class RedocPage(DocumentPage):
    """Redoc, whose search runs in a web worker."""

    template = "docs/redoc.html"

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

# Both have icons in their style sheets and scripts.
SHOWN = POLICY | {"img-src": [SELF, "data:"]}
# What Redoc writes into its page: the empty style sheet that styled-components fill by the CSSOM, and
# the one of its scroll bars.
REDOC_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
)
HTML = "text/html; charset=utf-8"


@cache
def openapi_document() -> Document:
    """Return the document in JSON. It takes a tenth of a second to make, and is the same for everybody."""
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return json_document(schema, content_type="application/vnd.oai.openapi+json")


@cache
def page(template: str) -> Document:
    """Return the page of a template."""
    return Document(render_to_string(template).encode(), HTML)


class OpenAPIDocument(PublicPage):
    """/openapi.json."""

    def document(self) -> Document:
        """Return the OpenAPI document."""
        return openapi_document()


@method_decorator(csp(SHOWN), name="dispatch")
class DocumentPage(PublicPage):
    """A page that shows the OpenAPI document."""

    template: ClassVar[str]

    def document(self) -> Document:
        """Return the page."""
        return page(self.template)


class SwaggerPage(DocumentPage):
    """Swagger UI."""

    template = "docs/swagger.html"


@method_decorator(csp(SHOWN | {"style-src": [SELF, *REDOC_STYLES], "worker-src": ["blob:"]}), name="dispatch")
class RedocPage(DocumentPage):
    """Redoc, which searches in a worker."""

    template = "docs/redoc.html"

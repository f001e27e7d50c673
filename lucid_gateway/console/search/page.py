"""The page of the global search. It is a POST, because an email or a key does not belong into an address."""

from itertools import groupby

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from lucid_gateway.console.search.matches import Match, matches_of
from lucid_gateway.kernel.secrets.pasted import without_secrets

MAX_TEXT = 254  # the longest email


def search_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Lead to the one match, or show all matches; without a text, say what can be searched."""
    text = without_secrets(request.POST.get("q", "")).replace("\0", "").strip()[:MAX_TEXT]
    found = matches_of(text) if text else []
    if len(found) == 1:
        return HttpResponseRedirect(found[0].url)
    context = {
        **site.each_context(request), "title": "Search", "text": text, "groups": grouped(found), "count": len(found),
    }  # fmt: skip
    return TemplateResponse(request, "admin/search.html", context)


def grouped(found: list[Match]) -> list[tuple[str, list[Match]]]:
    """Return the matches by kind, in their order."""
    return [(kind, list(matches)) for kind, matches in groupby(found, key=lambda match: match.kind)]

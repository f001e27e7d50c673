"""The page to which an operator returns after an action that was started on another page than the list."""

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

BACK = "back"  # the field of a form


def back_of(request: HttpRequest) -> str:
    """Return the path that the form names, empty if it names none or a page of another host."""
    path = request.POST.get(BACK, "")
    is_own = path.startswith("/") and url_has_allowed_host_and_scheme(path, allowed_hosts=None)
    return path if is_own else ""

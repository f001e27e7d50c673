"""The rows, cells and filters of the lists on operator pages."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django import template
from django.contrib.admin.templatetags.admin_list import result_headers
from django.contrib.admin.utils import label_for_field, lookup_field
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR, ChangeList
from django.core.exceptions import ObjectDoesNotExist
from django.urls import NoReverseMatch
from django.utils.html import format_html
from django.utils.text import capfirst

from lucid_gateway.operators.numbers import EMPTY
from lucid_gateway.operators.row_actions import RowButton
from lucid_gateway.operators.templatetags.console import pill, shown

register = template.Library()

CHECKBOX = "action_checkbox"


@dataclass(frozen=True)
class Cell:
    """`label` is the heading of its column; `html` is its content."""

    name: str
    label: str
    html: str


@dataclass(frozen=True)
class Filter:
    """A filter of a list: its choices as Django's admin prepares them. `chosen` is the name of the one that restricts
    the list, or None; `without` is the query string without it.
    """

    title: str
    choices: list[dict[str, Any]]
    chosen: str | None
    without: str


@register.simple_tag
def headers_of(cl: ChangeList) -> list[dict[str, Any]]:
    """Return the headings of the list, as Django's admin prepares them."""
    return list(result_headers(cl))


Row = tuple[list[Cell], list[RowButton]]


@register.simple_tag(takes_context=True)
def rows_of(context: Any, cl: ChangeList) -> list[Row]:
    """Return the cells and the buttons of each row."""
    return list(each_row(context, cl))


@register.filter
def have_buttons(rows: list[Row]) -> bool:
    """Return whether a row has a button."""
    return any(buttons for _, buttons in rows)


def each_row(context: Any, cl: ChangeList) -> Iterator[Row]:
    page: Any = cl.model_admin
    labels = {name: str(label_for_field(name, cl.model, page)) for name in cl.list_display}
    linked = linked_columns(cl)
    allowed = page.get_actions(context["request"]) if page.row_actions else ()
    for row in cl.result_list:
        cells = [cell_of(cl, row, name, labels[name], link=name in linked) for name in cl.list_display]
        yield cells, page.row_buttons(row, allowed)


def linked_columns(cl: ChangeList) -> set[Any]:
    """Return the columns that link to the page of the row."""
    if cl.list_display_links is None:
        return set()
    columns = [name for name in cl.list_display if name != CHECKBOX]
    return set(cl.list_display_links or columns[:1])


def cell_of(cl: ChangeList, row: Any, name: Any, label: str, *, link: bool) -> Cell:
    """Return the cell; the ModelAdmin's `pills` gives the tones of values that are shown as pills."""
    key = name if isinstance(name, str) else name.__name__
    try:
        field, _, value = lookup_field(name, row, cl.model_admin)
    except ObjectDoesNotExist:
        return Cell(key, label, EMPTY)
    if field is not None and field.is_relation:
        value = getattr(row, field.name)
    tones = getattr(cl.model_admin, "pills", {}).get(key)
    words = row_words(row, field, value)
    html = pill(capfirst(str(words)), tones.get(value, "")) if tones is not None and words else shown(words)
    if link:
        with suppress(NoReverseMatch):  # rows of some lists have no page
            html = format_html('<a href="{}">{}</a>', cl.url_for_result(row), html)
    return Cell(key, capfirst(label), html)


def row_words(row: Any, field: Any, value: Any) -> Any:
    """Return the name of a choice, or any other value itself."""
    choices = getattr(field, "choices", None)
    return getattr(row, f"get_{field.name}_display")() if choices else value


@register.simple_tag
def filters_of(cl: ChangeList) -> list[Filter]:
    """Return the filters of the list. The first choice of each is no restriction."""
    found = []
    for spec in cl.filter_specs:
        choices = [dict(choice) for choice in spec.choices(cl)]
        chosen = next((str(choice["display"]) for choice in choices[1:] if choice.get("selected")), None)
        found.append(Filter(capfirst(str(spec.title)), choices, chosen, str(choices[0].get("query_string", "?"))))
    return found


@register.simple_tag
def page_link(cl: ChangeList, number: int) -> str:
    """Return the query string of another page of the list."""
    return cl.get_query_string({PAGE_VAR: number})


@register.simple_tag
def query_without_search(cl: ChangeList) -> str:
    """Return the query string of the list without its search."""
    return cl.get_query_string(remove=[SEARCH_VAR])

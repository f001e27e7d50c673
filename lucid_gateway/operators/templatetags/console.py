"""The parts from which all operator pages are made: times, ids, numbers, pills and small plots."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django import template
from django.contrib.admin.helpers import AdminReadonlyField
from django.contrib.admin.utils import lookup_field
from django.contrib.messages.storage.base import Message
from django.core.exceptions import ObjectDoesNotExist
from django.forms import BaseForm, BoundField
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from lucid_gateway.operators.numbers import EMPTY, size, thousands
from lucid_gateway.operators.undo import key_of

register = template.Library()
register.filter(size)
register.filter(thousands)

# An id that is longer than this is shown by its first and last characters.
WHOLE_ID = 14


@register.simple_tag
def when(moment: datetime | None, default: str = EMPTY) -> str:
    """Return a time, in UTC until the script shows it in the viewer's zone; the title keeps UTC."""
    return default if moment is None else time_element(moment, f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}")


def time_element(moment: datetime, text: str) -> SafeString:
    """Return the element of a time that shows `text`, which is in UTC."""
    utc = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{} UTC</time>',
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"), f"{utc:%Y-%m-%d %H:%M:%S}", text,
    )  # fmt: skip


@register.simple_tag
def cut(value: object, name: str = "id") -> str:
    """Return an id, cut in the middle if it is long, with a button that copies it; `name` says what it is."""
    text = "" if value is None else str(value)
    if not text:
        return EMPTY
    shown = text if len(text) <= WHOLE_ID else f"{text[:6]}…{text[-4:]}"
    return format_html(
        '<span class="id"><code title="{0}">{1}</code><button type="button" class="copy" data-copy="{0}" '
        'aria-label="Copy {2}" hidden></button></span>',
        text, shown, name,
    )  # fmt: skip


@register.simple_tag
def pill(text: object, tone: str = "") -> str:
    """Return a status as a pill; `tone` is ok, warn, bad or "" (neutral)."""
    return format_html('<span class="pill {}">{}</span>', tone, text)


@register.filter
def fields_with_errors(form: BaseForm) -> list[BoundField]:
    """Return the fields that the operator must correct."""
    return [field for field in form if field.errors]


@register.filter
def undo_key(message: Message) -> str:
    """Return the key of what the message's "Undo" button restores, or "" for a message without one."""
    return key_of(message)


@register.simple_tag
def sparkline(values: Sequence[float | None], label: str, tone: str = "") -> str:
    """Return a small plot of values at equal distances as SVG. None leaves a gap; `label` describes the plot."""
    known = [value for value in values if value is not None]
    top = max(known, default=0) or 1
    step = 100 / max(1, len(values) - 1)
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{index * step:.1f},{23 - 22 * value / top:.1f}")
    lines = format_html_join("", '<polyline points="{}"/>', ((" ".join(run),) for run in runs if run))
    return format_html(
        '<svg class="spark {}" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        tone, label, lines,
    )  # fmt: skip


def shown(value: Any) -> str:
    """Return a value of a row as HTML: times in the viewer's zone, ids cut in the middle, long texts whole on hover."""
    if isinstance(value, SafeString):
        return value
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, uuid.UUID):
        return cut(value)
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, int):
        return thousands(value)
    text = "" if value is None else str(value)
    return format_html('<span class="cut" title="{}">{}</span>', text, text) if text.strip() else EMPTY


@register.simple_tag
def read_only(field: AdminReadonlyField) -> str:
    """Return the content of a read-only field of a form; times and ids look as everywhere in the console."""
    try:
        _, _, value = lookup_field(field.field["field"], field.form.instance, field.model_admin)
    except (AttributeError, ValueError, ObjectDoesNotExist):
        return EMPTY
    if value is None or value == "":
        return EMPTY
    if isinstance(value, datetime | uuid.UUID | bool):
        return shown(value)
    return field.contents()

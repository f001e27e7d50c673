"""What every operator page says at its top."""

from typing import Any

from django import template

from lucid_gateway.console import health_strip
from lucid_gateway.console.alarms.alarm import Alarm

register = template.Library()


@register.simple_tag(takes_context=True)
def outages(context: Any) -> list[Alarm]:
    """Return what is down, without what the page says itself: the overview shows all alarms."""
    shown = {alarm.kind for alarm in context.get("alarms", ())}
    return [outage for outage in health_strip.outages() if outage.kind not in shown]

"""Alarms about clusters and instances that are down."""

from collections.abc import Iterator

from lucid_gateway.console.alarms.alarm import BAD, WARN, Alarm, Link, links, remedy
from lucid_gateway.operators.links import page, requests_page
from proxy.operators.overview import ClusterView, InstanceView, clusters


def clusters_that_fail() -> Iterator[Alarm]:
    views, known = clusters()
    for view in views if known else ():
        yield from alarms_of(view)


def alarms_of(view: ClusterView) -> Iterator[Alarm]:
    """Yield one alarm for a cluster without an instance that serves, otherwise one for each instance that is down."""
    down = [instance for instance in view.instances if instance.condition == "down"]
    if down and view.serving == 0:
        yield Alarm(
            "cluster", BAD, f"{view.name} is down",
            f"{none_of(len(view.instances))} serves requests: callers get 503.{last_error_of(down[0])}",
            since=down[0].down_since,
            links=failures(view.name),
            remedy=remedy("Clusters", page("proxy_maintenance_changelist")),
        )  # fmt: skip
        return
    for instance in down:
        yield Alarm(
            "instance", WARN, f"{view.name}: {instance.url} is down",
            f"{cause_of(instance)}.{last_error_of(instance)} {served_by(view.serving)}",
            since=instance.down_since,
            links=failures(view.name, instance.url),
            remedy=remedy("Clusters", page("proxy_maintenance_changelist")),
        )  # fmt: skip


def none_of(instances: int) -> str:
    return "Its only instance no longer" if instances == 1 else f"None of its {instances} instances"


def failures(cluster: str, instance: str = "") -> tuple[Link, ...]:
    return links(("Requests that failed", requests_page(cluster=cluster, instance=instance, status="5xx", since="1h")))


def cause_of(instance: InstanceView) -> str:
    return "Its circuit breaker is open" if instance.breaker == "open" else "Its health checks fail"


def served_by(serving: int) -> str:
    return f"Callers are served by {'another instance' if serving == 1 else f'{serving} other instances'}."


def last_error_of(instance: InstanceView) -> str:
    return f" Last error: {instance.last_error}." if instance.last_error else ""

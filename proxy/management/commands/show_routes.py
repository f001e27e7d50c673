"""Prints the route table."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from lucid_gateway.policy.routes import MIB, Route
from proxy.forwarding.resolving import active_routes

COLUMNS = ("methods", "path", "cluster", "upstream", "permission", "tier", "seconds", "body", "attempts", "more")


def row(route: Route) -> tuple[str, ...]:
    """Return the route's cells; `seconds` are the timeouts to connect, between two reads, and in total."""
    times = route.timeouts
    extras = {
        "idempotency key": route.idempotency_key, "cache": route.cache is not None, "websocket": route.websocket,
    }  # fmt: skip
    return (
        ",".join(route.methods),
        f"/api/v1/{route.path}",
        route.cluster,
        route.upstream,
        route.permission,
        route.tier,
        f"{times.connect:g}/{times.read:g}/{times.total:g}",
        f"{route.body_limit // MIB} MiB",
        str(route.attempts),
        ", ".join(name for name, present in extras.items() if present),
    )


class Command(BaseCommand):
    help = "Print the forwarded routes in the order in which they are matched."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print every field as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        routes = active_routes()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(route) for route in routes], indent=2))
            return
        cells = [COLUMNS, *(row(route) for route in routes)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
        for line in cells:
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

"""manage.py show_routes."""

import json
from io import StringIO

from django.core.management import call_command

from proxy.forwarding.resolving import active_routes


def output(*arguments: str) -> str:
    stream = StringIO()
    call_command("show_routes", *arguments, stdout=stream)
    return stream.getvalue()


def test_each_route_has_a_line() -> None:
    heading, *lines = output().splitlines()

    assert heading.split()[:3] == ["methods", "path", "cluster"]
    assert len(lines) == len(active_routes())
    assert any("/api/v1/chain/info" in line and "blockchain:read" in line for line in lines)


def test_json_has_every_field_of_every_route() -> None:
    routes = json.loads(output("--json"))

    assert [route["path"] for route in routes] == [route.path for route in active_routes()]
    assert routes[0]["timeouts"] == {"connect": 2.0, "read": 30.0, "total": 60.0}

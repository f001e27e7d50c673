"""An address rule in shadow mode on a real gateway: requests are served, and the rule's page learns of them."""

import json
import urllib.request
from typing import Any

from testing.gateway import running_gateway
from testing.waiting import wait_until

OBSERVE = """
from ratelimit.ruling import set_address_rule
set_address_rule(network="127.0.0.1", kind="deny", reason="a test", by="manage.py", observe_only=True)
"""


def test_a_rule_in_shadow_mode_serves_requests_and_counts_them() -> None:
    with running_gateway() as gateway:
        token = gateway.issue_token("admin@lucid.test")

        def read(path: str) -> Any:
            """Return the answer to a request of the operator; raise HTTPError if it was refused."""
            request = urllib.request.Request(f"{gateway.url}{path}", headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)

        user = read("/users/me")["user_id"]
        gateway.manage("shell", "--no-imports", "--command", OBSERVE)

        def subjects() -> set[str]:
            found = read("/admin/shadow-refusals?network=127.0.0.1")["subjects"]
            return {row["subject"] for row in found}

        wait_until(lambda: {"ip:127.0.0.1", f"user:{user}"} <= subjects(), every=0.1)
        wait_until(lambda: read("/admin/blocked-addresses")["blocked_addresses"][0]["observed"], every=0.1)
        [rule] = read("/admin/blocked-addresses")["blocked_addresses"]
        assert (rule["observe_only"], rule["refused"]) == (True, 0)

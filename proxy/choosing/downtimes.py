"""Since when instances are down, shared by the workers of a gateway through Redis, so that new workers know it too."""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.policy import keys
from proxy.choosing.instances import InstanceState

KEPT_SECONDS = 120
# What no worker has renewed for so long is about an earlier downtime.
CURRENT_SECONDS = 60.0


class Downtimes:
    """One worker's part: it writes each instance that it finds down, and deletes the entry when it is up again."""

    def __init__(self) -> None:
        self.written: set[str] = set()

    def adopt(self, states: Iterable[InstanceState], shared: Mapping[bytes, bytes]) -> None:
        """Take over an earlier start and, without an error of its own, the error of instances that are down."""
        for state in states:
            text = shared.get(state.name.encode())
            if text is None or state.down_since is None:
                continue
            entry = json.loads(text)
            if time.time() - entry["at"] <= CURRENT_SECONDS:
                state.down_since = min(state.down_since, entry["since"])
                if not state.last_error:
                    state.last_error, state.last_error_at = entry["error"], entry["error_at"]

    def write(self, pipeline: Any, states: Iterable[InstanceState]) -> None:
        """Add the commands to the pipeline."""
        key, down = keys.downtimes(gateway_name()), set()
        for state in states:
            if state.down_since is not None:
                down.add(state.name)
                pipeline.hset(key, state.name, json.dumps(entry_of(state)))
            elif state.name in self.written:
                pipeline.hdel(key, state.name)
        if down:
            pipeline.expire(key, KEPT_SECONDS)
        self.written = down


def entry_of(state: InstanceState) -> dict[str, Any]:
    return {"since": state.down_since, "error": state.last_error, "error_at": state.last_error_at, "at": time.time()}

"""Which commands a sharded cluster of MongoDB would send to all shards."""

from typing import Any

from lucid_gateway.mongodb.sharding import SHARD_KEYS


def conditions(stage: Any) -> dict[str, Any]:
    """Return the conditions of a filter that all must hold, by field."""
    found = {name: value for name, value in stage.items() if not name.startswith("$")}
    for part in stage.get("$and", ()):
        found |= conditions(part)
    return found


def filter_of(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the conditions of a command by field; MongoDB moves a filter before the join of another collection."""
    command = entry["command"]
    stages = [stage["$match"] for stage in command.get("pipeline", ()) if "$match" in stage]
    return conditions(stages[0] if stages else command.get("q", {}))


def is_equality(value: Any) -> bool:
    """Return whether the condition names single values."""
    return not isinstance(value, dict) or value.keys() <= {"$eq", "$in"}


def untargeted(entries: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return (operation, collection, fields) of each command for which a cluster would ask all shards."""
    found = set()
    for entry in entries:
        name = entry["ns"].partition(".")[2]
        if name not in SHARD_KEYS or entry["op"] in ("insert", "getmore"):
            continue
        named = filter_of(entry)
        field = next(iter(SHARD_KEYS[name]))
        if field not in named or not is_equality(named[field]):
            found.add((entry["op"], name, " ".join(sorted(named))))
    return found

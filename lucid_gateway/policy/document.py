"""The whole policy as one JSON document, for other data planes and for readers (`manage.py export_policy`)."""

import dataclasses
import inspect
from types import ModuleType
from typing import Any

from lucid_gateway.policy import claims, clusters, errors, headers, keys, paths, reasons, roles, routes, tiers

# Increase it when a reader of the earlier document could misread the new one.
VERSION = 1


def policy_document() -> dict[str, Any]:
    """Return the document; `policy_schema.json` describes it."""
    return {
        "version": VERSION,
        "tiers": [dataclasses.asdict(tier) for tier in tiers.TIERS.values()],
        "windows": {"seconds": tiers.WINDOW_SECONDS, "burst_renews_after_seconds": tiers.BURST_RENEWS_AFTER_SECONDS},
        "roles": [
            {"name": role, "label": role.label, "staff": role in roles.STAFF, "permissions": sorted(permissions)}
            for role, permissions in roles.PERMISSIONS.items()
        ],
        "clusters": [dataclasses.asdict(cluster) for cluster in clusters.CLUSTERS.values()],
        "routes": [dataclasses.asdict(route) for route in routes.ROUTES],
        "own_paths": list(routes.OWN_PATHS),
        "paths": {"safe_characters": routes.SAFE_IN_PATH, "refusals": paths.REFUSALS, "cases": list(paths.cases())},
        "headers": constants(headers),
        "errors": [
            {"name": error.__name__, "code": error.number, "status": error.status, "text": error.text,
             "reason": error.reason}
            for error in errors.all_errors()
        ],
        "reasons": [dataclasses.asdict(reason) for reason in reasons.REASONS.values()],
        "claims": constants(claims),
        "keys": key_names(),
    }  # fmt: skip


def constants(module: ModuleType) -> dict[str, Any]:
    """Return the constants of a module by lower-case name; sets become sorted lists."""
    return {
        name.lower(): sorted(value) if isinstance(value, frozenset) else value
        for name, value in vars(module).items()
        if name.isupper()
    }


def key_names() -> dict[str, str]:
    """Return the names of the keys in Redis, with `<parameter>` for each variable part."""
    names = {name: value for name, value in constants(keys).items() if "*" not in "".join(value)}
    for name, function in inspect.getmembers(keys, inspect.isfunction):
        if name == keys.user_id_of.__name__:
            continue  # it parses a key
        parameters = [f"<{parameter}>" for parameter in inspect.signature(function).parameters]
        names[name] = function(*parameters)
    return names

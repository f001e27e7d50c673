"""How the databases find rows by their keys and unique values: by indexes, on each of them.

MongoDB's own unique indexes are partial, and find nothing: what is looked for has a plain index beside.
"""

import uuid
from typing import Any

import pytest
from django.apps import apps
from django.db import models

OURS = ("accounts", "audit", "explorer", "figures", "ratelimit", "proxy", "sessions_api")
MODELS = [model for app in OURS for model in apps.get_app_config(app).get_models() if model._meta.managed]


def values_of(field: Any) -> list[Any]:
    """Return two valid values for a field of this kind."""
    return [uuid.UUID(int=7), uuid.UUID(int=8)] if isinstance(field, models.UUIDField) else ["a", "b"]


def lookups() -> list[Any]:
    """Return (model, field) for each key and unique field of the gateway's models."""
    found = []
    for model in MODELS:
        if model._meta.proxy:
            continue
        for field in model._meta.concrete_fields:
            if (field.primary_key or field.unique) and not field.is_relation:
                found.append(pytest.param(model, field, id=f"{model.__name__}-{field.name}"))
    return found


@pytest.mark.parametrize(("model", "field"), lookups())
def test_a_row_is_found_by_its_key_without_a_scan(db: None, model: Any, field: Any) -> None:
    one, other = values_of(field)
    for lookup in ({field.name: one}, {f"{field.name}__in": [one, other]}):
        plan = model.objects.filter(**lookup).order_by().explain()
        assert "COLLSCAN" not in plan
        assert f"SCAN {model._meta.db_table}" not in plan

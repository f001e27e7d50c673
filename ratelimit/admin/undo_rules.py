"""Undoes what operators did to limits and address rules: the row becomes exactly what it was."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import IntegrityError
from django.http import HttpRequest

from lucid_gateway.audit import events as audit
from lucid_gateway.audit.events import record
from lucid_gateway.operators import undo
from lucid_gateway.operators.confirmation import operator_of
from ratelimit.models import AddressRule, LimitRule
from ratelimit.rules import rules_cache
from ratelimit.ruling import NO_NUMBERS, NO_RULE, LocksOut, refuse_to_lock_out

RESTORER = "rules"
Rule = LimitRule | AddressRule
Values = dict[str, Any]
# What names a rule of each model.
KEYS: dict[type[Rule], tuple[str, ...]] = {LimitRule: ("tier", "subject"), AddressRule: ("network",)}
MODELS: dict[str, type[Rule]] = {model._meta.model_name or "": model for model in KEYS}
# Columns that change without an operator, or that no filter can compare.
COUNTED = frozenset({"refused", "observed"})
NOT_COMPARED = COUNTED | {"evidence"}


class Changes:
    """What an action changes in the rules of one model."""

    def __init__(self, model: type[Rule]) -> None:
        self.model = model
        self.changes: list[dict[str, Values | None]] = []

    @contextmanager
    def to(self, rule: Rule) -> Iterator[None]:
        """Note what the rule with the same key is before and after this context, unless it raises."""
        before = values_of(self.model, rule)
        yield
        self.changes.append({"before": before, "after": values_of(self.model, rule)})

    def __len__(self) -> int:
        return len(self.changes)

    def offer_undo(self, request: HttpRequest, text: str, *, dangerous: bool) -> None:
        """Show the text as a message with a button that undoes the changes."""
        state = {"model": self.model._meta.model_name, "changes": self.changes}
        undo.offer(request, text, RESTORER, state, dangerous=dangerous)


def values_of(model: type[Rule], rule: Rule) -> Values | None:
    """Return the row with the key of the rule as JSON, or None if there is none."""
    row = model._default_manager.filter(**{name: getattr(rule, name) for name in KEYS[model]}).values().first()
    return row and {name: as_json(value) for name, value in row.items()}


def as_json(value: Any) -> Any:
    """Return the value of a column as JSON; `to_python` of its field reads it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def row_of(model: type[Rule], values: Values) -> Rule:
    """Return the row, not saved, that has these values."""
    fields = {field.attname: field for field in model._meta.concrete_fields}
    return model(**{name: fields[name].to_python(value) for name, value in values.items()})


@undo.restores(RESTORER)
def restore_rules(request: HttpRequest, state: Any) -> str:
    """Restore the rules that nobody has changed since."""
    model, problems = MODELS[state["model"]], []
    for change in state["changes"]:
        before, after = (change[name] and row_of(model, change[name]) for name in ("before", "after"))
        try:
            restore(model, before, after)
        except undo.CannotUndo as error:
            problems.append(str(error))
        else:
            note(before, after, operator_of(request))
    return undo.summary(len(state["changes"]), problems, "rule")


def restore(model: type[Rule], before: Rule | None, after: Rule | None) -> None:
    """Make the row `before` again if it still is `after`; None stands for no row. Raises CannotUndo."""
    if isinstance(before, AddressRule):
        try:
            refuse_to_lock_out(before)
        except LocksOut as error:
            raise undo.CannotUndo(f"the rule for {before.network} would lock you out") from error
    with rules_cache.changing():
        restored = put_back(before) if after is None else change_back(model, before, after)
    if not restored:
        raise undo.CannotUndo(f"somebody has changed the rule {after or before} since")


def put_back(before: Rule | None) -> bool:
    """Insert the row again; return False if there is another one with its key."""
    assert before is not None
    if values_of(type(before), before):
        return False
    try:
        before.save(force_insert=True)
    except IntegrityError:
        return False
    return True


def change_back(model: type[Rule], before: Rule | None, after: Rule) -> bool:
    """Delete the row, or make it `before` again; return False if it is no longer `after`."""
    compared = {name: value for name, value in columns(after).items() if name not in NOT_COMPARED}
    same = model._default_manager.filter(**compared)
    if before is None:
        return bool(same.delete()[0])
    former = columns(before)
    return bool(same.update(**{name: former[name] for name in former if name not in COUNTED | {"rule_id"}}))


def columns(rule: Rule) -> Values:
    return {field.attname: getattr(rule, field.attname) for field in rule._meta.concrete_fields}


def note(before: Rule | None, after: Rule | None, operator: Any) -> None:
    """Write the audit event of an undo, after which `before` is in force and `after` is not."""
    shown = before or after
    if isinstance(shown, AddressRule):
        done, who, details = "address.ruled" if before else "address.lifted", shown.network, {"rule": shown.kind}
    else:
        assert shown is not None
        done, who, details = (
            "limit.set" if before else "limit.lifted",
            shown.subject or "everyone",
            {"tier": shown.tier},
        )
    record(done, subject=who, actor=operator, changes=undone(before, after), undone=True, **details)  # type: ignore[arg-type]


def undone(before: Rule | None, after: Rule | None) -> audit.Changes:
    """Return what the undo changed, for the audit log."""
    nothing = NO_RULE if isinstance(before or after, AddressRule) else dict.fromkeys(NO_NUMBERS)
    old, new = ({name: getattr(rule, name, value) for name, value in nothing.items()} for rule in (after, before))
    return audit.changed(old, new)

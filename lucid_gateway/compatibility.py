"""The check that a migration suits the release before, which serves while it runs and after a roll-back.

`manage.py check --deploy --tag compatibility`, a part of `make lint`, refuses a migration that takes from the release
before what it uses, or makes the database refuse its writes. The check cannot know what that release still uses: a
migration that removes something long unused says so in `compatible_because`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.db.migrations import Migration
from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import NOT_PROVIDED, Field

# The last migration of each app before this rule; there was no release until then.
EXEMPT = {
    "accounts": 15, "audit": 7, "explorer": 1, "figures": 1, "proxy": 3, "ratelimit": 4, "sessions_api": 4,
    "snapshots": 1,
}  # fmt: skip
DJANGOS_OWN = {"admin", "auth", "contenttypes", "sessions"}
REMOVING = (ops.RemoveField, ops.RenameField, ops.DeleteModel, ops.RenameModel, ops.AlterModelTable)
REASON = "compatible_because"


@register("compatibility", deploy=True)
def check_migrations(**_: Any) -> list[CheckMessage]:
    """Return an error for each operation of our migrations that the release before cannot bear."""
    loader = MigrationLoader(None)
    return [
        Error(f"{app}.{name}: {problem}", hint=f"Or say in {REASON} of the migration why it can.", id="lucid.E001")
        for (app, name), migration in sorted(loader.disk_migrations.items())
        if app not in DJANGOS_OWN and int(name[:4]) > EXEMPT.get(app, 0)
        for problem in problems(migration, loader.project_state((app, name), at_end=False))
    ]


def problems(migration: Migration, before: ProjectState) -> Iterator[str]:
    """Yield what the release before cannot bear, given the state of the models before the migration."""
    if getattr(migration, REASON, ""):
        return
    state = before.clone()
    for operation in flattened(migration.operations):
        if problem := problem_of(operation, migration.app_label, state):
            yield problem
        operation.state_forwards(migration.app_label, state)


def flattened(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Yield the operations that change the database."""
    for operation in operations:
        if isinstance(operation, ops.SeparateDatabaseAndState):
            yield from flattened(operation.database_operations)
        else:
            yield operation


def problem_of(operation: Operation, app: str, state: ProjectState) -> str:
    """Return why the release before cannot bear the operation, or an empty text."""
    if isinstance(operation, REMOVING):
        return f"{operation.describe()}, but the release before may use it; expected to go one release later"
    if isinstance(operation, ops.AddField) and is_required(operation.field):
        return f"{operation.describe()}, which the release before does not set; expected null=True or db_default"
    if isinstance(operation, ops.AlterField) and is_narrower(operation, state.models[app, operation.model_name_lower]):
        return f"{operation.describe()}, which then refuses values of the release before"
    if isinstance(operation, ops.AddConstraint | ops.RunSQL):
        return f"{operation.describe()}, which may refuse writes of the release before"
    return ""


def is_required(field: "Field[Any, Any]") -> bool:
    """Return whether a row without a value is refused. Django removes the default of a field from the database."""
    return not (field.null or field.many_to_many or field.db_default is not NOT_PROVIDED)


def is_narrower(operation: ops.AlterField, model: Any) -> bool:
    """Return whether the field refuses values that it has accepted before."""
    new, old = operation.field, model.fields[operation.name]
    shorter = (new.max_length or 10**9) < (old.max_length or 10**9)
    return (old.null and is_required(new)) or (new.unique and not old.unique) or shorter

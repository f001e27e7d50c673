"""The check that refuses migrations with which the release before cannot serve."""

import pytest
from django.core.management import call_command
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from lucid_gateway.compatibility import problems

CREATE = migrations.CreateModel(
    "Sample",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("name", models.CharField(max_length=20)),
        ("note", models.CharField(max_length=20, null=True)),
    ],
)
REFUSED: dict[str, Operation] = {
    "a field that is removed": migrations.RemoveField("sample", "name"),
    "a field with another name": migrations.RenameField("sample", "name", "title"),
    "a model that is removed": migrations.DeleteModel("Sample"),
    "a model with another name": migrations.RenameModel("Sample", "Specimen"),
    "another table": migrations.AlterModelTable("sample", "samples"),
    "a required field": migrations.AddField("sample", "size", models.IntegerField()),
    "a default that only Django knows": migrations.AddField("sample", "size", models.IntegerField(default=1)),
    "a field that may be null no more": migrations.AlterField("sample", "note", models.CharField(max_length=20)),
    "a shorter field": migrations.AlterField("sample", "name", models.CharField(max_length=10)),
    "a field that becomes unique": migrations.AlterField(
        "sample", "name", models.CharField(max_length=20, unique=True)
    ),
    "a constraint": migrations.AddConstraint("sample", models.UniqueConstraint(fields=["name"], name="one_name")),
    "unknown SQL": migrations.RunSQL("DELETE FROM sample"),
    "one of these in the database alone": migrations.SeparateDatabaseAndState(
        database_operations=[migrations.RemoveField("sample", "name")]
    ),
}
ACCEPTED: dict[str, Operation] = {
    "a model": migrations.CreateModel("Other", [("id", models.BigAutoField(primary_key=True))]),
    "a field that may be null": migrations.AddField("sample", "size", models.IntegerField(null=True)),
    "a field with a default of the database": migrations.AddField("sample", "size", models.IntegerField(db_default=1)),
    "a longer field": migrations.AlterField("sample", "name", models.CharField(max_length=30)),
    "a field that may be null from now on": migrations.AlterField(
        "sample", "name", models.CharField(max_length=20, null=True)
    ),
    "an index": migrations.AddIndex("sample", models.Index(fields=["name"], name="by_name")),
    "code": migrations.RunPython(migrations.RunPython.noop),
}


def found(*operations: Operation, because: str = "") -> list[str]:
    """Return the problems of a migration that comes after the model was made."""
    before = ProjectState()
    CREATE.state_forwards("samples", before)
    migration = migrations.Migration("0002_next", "samples")
    migration.operations = list(operations)
    if because:
        migration.compatible_because = because  # type: ignore[attr-defined]
    return list(problems(migration, before))


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_release_before_cannot_bear_is_refused(name: str) -> None:
    assert len(found(REFUSED[name])) == 1


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_release_before_does_not_notice_is_accepted(name: str) -> None:
    assert found(ACCEPTED[name]) == []


def test_each_operation_is_compared_with_what_those_before_it_have_made() -> None:
    longer = migrations.AlterField("sample", "name", models.CharField(max_length=30))
    as_before = migrations.AlterField("sample", "name", models.CharField(max_length=20))

    assert found(as_before) == []
    assert len(found(longer, as_before)) == 1


def test_a_migration_may_say_why_the_release_before_can_bear_it() -> None:
    assert found(REFUSED["a field that is removed"], because="Unused since 1.2.0.") == []


def test_our_migrations_suit_the_release_before() -> None:
    call_command("check", "--deploy", "--tag", "compatibility")

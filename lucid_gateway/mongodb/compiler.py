"""Compiles queries so that MongoDB can read sorted rows from an index.

django-mongodb-backend selects the fields before it sorts. MongoDB then reads all matching rows and sorts them, even for
the newest ten of a million.
"""

from typing import Any

from django_mongodb_backend import compiler
from django_mongodb_backend.operations import DatabaseOperations
from django_mongodb_backend.query import MongoQuery

Stage = dict[str, Any]
SORTING = ("$sort", "$skip", "$limit")


class SortedFirst(MongoQuery):  # type: ignore[misc]  # the backend ships no types
    def get_pipeline(self) -> list[Stage]:
        return sort_first(super().get_pipeline())


def sort_first(pipeline: list[Stage]) -> list[Stage]:
    """Return a pipeline with the same result, which sorts before it selects fields, where that is possible."""
    stages = [stage for stage in map(without_identities, pipeline) if stage != {"$addFields": {}}]
    start = next((index for index, stage in enumerate(stages) if "$sort" in stage), 0)
    if not start or not selects(stages[start - 1], stages[start]["$sort"]):
        return stages
    end = next((index for index in range(start, len(stages)) if not stages[index].keys() <= set(SORTING)), len(stages))
    return [*stages[: start - 1], *stages[start:end], stages[start - 1], *stages[end:]]


def without_identities(stage: Stage) -> Stage:
    """Return the stage without fields that it would set to themselves."""
    if "$addFields" not in stage:
        return stage
    return {"$addFields": {name: value for name, value in stage["$addFields"].items() if value != f"${name}"}}


def selects(stage: Stage, sort: dict[str, int]) -> bool:
    """Return whether the stage only selects fields, those of the sort among them, and changes none."""
    fields = stage.get("$project", {})
    return all(value == 1 for value in fields.values()) and sort.keys() <= fields.keys()


class SQLCompiler(compiler.SQLCompiler):  # type: ignore[misc]
    query_class = SortedFirst


class SQLInsertCompiler(compiler.SQLInsertCompiler):  # type: ignore[misc]
    query_class = SortedFirst


class SQLDeleteCompiler(compiler.SQLDeleteCompiler):  # type: ignore[misc]
    query_class = SortedFirst


class SQLUpdateCompiler(compiler.SQLUpdateCompiler):  # type: ignore[misc]
    query_class = SortedFirst


class SQLAggregateCompiler(compiler.SQLAggregateCompiler):  # type: ignore[misc]
    query_class = SortedFirst


class Operations(DatabaseOperations):  # type: ignore[misc]
    compiler_module = "lucid_gateway.mongodb.compiler"

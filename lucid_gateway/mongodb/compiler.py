"""Compiles queries so that MongoDB can answer them from an index.

django-mongodb-backend selects the fields before it sorts. MongoDB then reads all matching rows and sorts them, even for
the newest ten of a million. For a count it selects the key, and MongoDB reads the document of each row.
"""

from typing import Any

from django_mongodb_backend import compiler
from django_mongodb_backend.operations import DatabaseOperations
from django_mongodb_backend.query import MongoQuery, wrap_database_errors

Stage = dict[str, Any]
SORTING = ("$sort", "$skip", "$limit")
# How the backend counts documents: 1 for each, because True is not null.
IS_NULL = {"$in": [{"$type": {"$literal": True}}, ["missing", "null"]]}
COUNT_OF_ALL = {"$sum": {"$cond": {"if": IS_NULL, "then": None, "else": 1}}}


class IndexedQuery(MongoQuery):  # type: ignore[misc]  # the backend ships no types
    """A query that uses the index whose name is in `mongodb_index` of Django's query, if that is set."""

    @wrap_database_errors  # type: ignore[untyped-decorator]  # the backend ships no types
    def get_cursor(self) -> Any:
        query = getattr(self.query, "inner_query", self.query)
        index = getattr(query, "mongodb_index", None)
        hint = {"hint": index} if index else {}
        return self.compiler.collection.aggregate(self.get_pipeline(), session=self.compiler.connection.session, **hint)

    def get_pipeline(self) -> list[Stage]:
        return [with_plain_counts(stage) for stage in count_by_index(without_key(sort_first(super().get_pipeline())))]


def without_key(pipeline: list[Stage]) -> list[Stage]:
    """Return a pipeline that selects fields without MongoDB's own key, which no index has, unless the key is read."""
    *before, last = pipeline or [{}]
    fields = last.get("$project", {})
    if "_id" in fields or not selects(last, {}):
        return pipeline
    return [*before, {"$project": {"_id": 0, **fields}}]


def count_by_index(pipeline: list[Stage]) -> list[Stage]:
    """Return the pipeline of a count without the stage that selects fields, as nothing reads them: then MongoDB counts
    the keys of an index.
    """
    places = [place for place, stage in enumerate(pipeline) if "$facet" in stage]
    if not places or reads_fields(pipeline[places[0]]):
        return pipeline
    return [stage for place, stage in enumerate(pipeline) if place > places[0] or not selects(stage, {})]


def with_plain_counts(stage: Stage) -> Stage:
    """Return a stage that counts documents without an expression, which MongoDB would evaluate for each."""
    if "$facet" in stage:
        return {"$facet": {name: list(map(with_plain_counts, stages)) for name, stages in stage["$facet"].items()}}
    if "$group" not in stage:
        return stage
    fields = {name: {"$sum": 1} if value == COUNT_OF_ALL else value for name, value in stage["$group"].items()}
    return {"$group": fields}


def reads_fields(part: Any) -> bool:
    """Return whether an expression names a field of its input."""
    if isinstance(part, dict):
        return any(reads_fields(value) for name, value in part.items() if name != "$literal")
    if isinstance(part, list | tuple):
        return any(map(reads_fields, part))
    return isinstance(part, str) and part.startswith("$")


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
    fields = stage.get("$project")
    if not fields:
        return False
    return all(value == 1 for name, value in fields.items() if name != "_id") and sort.keys() <= fields.keys()


class SQLCompiler(compiler.SQLCompiler):  # type: ignore[misc]
    query_class = IndexedQuery


class SQLInsertCompiler(compiler.SQLInsertCompiler):  # type: ignore[misc]
    query_class = IndexedQuery


class SQLDeleteCompiler(compiler.SQLDeleteCompiler):  # type: ignore[misc]
    query_class = IndexedQuery


class SQLUpdateCompiler(compiler.SQLUpdateCompiler):  # type: ignore[misc]
    query_class = IndexedQuery


class SQLAggregateCompiler(compiler.SQLAggregateCompiler):  # type: ignore[misc]
    query_class = IndexedQuery


class Operations(DatabaseOperations):  # type: ignore[misc]
    compiler_module = "lucid_gateway.mongodb.compiler"

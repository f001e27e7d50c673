"""Which index the database uses for a list with several conditions.

Neither database knows which condition leaves the fewest rows: SQLite has no statistics, and MongoDB uses the plan of an
earlier query again, which had other values.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db.models import Func, Lookup, QuerySet
from django.db.models.expressions import Col
from django.db.models.sql.where import OR, WhereNode

SAMPLE = 5_000
RANGES = ("gt", "gte", "lt", "lte")
Rows = QuerySet[Any]
Conditions = tuple[Any, ...]


class Unindexed(Func):
    """A column whose index SQLite does not use (https://www.sqlite.org/optoverview.html, section 2)."""

    template = "+%(expressions)s"
    arity = 1


def best_conditions(rows: Rows, order: str, *, most: int) -> Conditions:
    """Return the conditions on the column whose index leaves the fewest rows. Of columns that leave more than `most`
    rows, it is one whose index returns them in this order, or a range. Empty if no condition has an index.
    """
    by_column: dict[Any, list[Any]] = defaultdict(list)
    conditions: list[Any] = rows.query.where.children
    for each in conditions:
        if has_index(each):
            by_column[each.lhs.target if is_plain(each) else id(each)].append(each)
    equal = tuple(each for each in conditions if is_plain(each) and each.lookup_name == "exact")
    if len(equal) > 1 and sorted_by_index(equal, order):
        return equal
    choices = list(map(tuple, by_column.values()))
    if len(choices) < 2:
        return next(iter(choices), ())

    def cost(choice: Conditions) -> tuple[int, bool, bool]:
        return matches(rows, choice, most), not sorted_by_index(choice, order), not all(map(is_range, choice))

    return min(choices, key=cost)


def matches(rows: Rows, conditions: Conditions, most: int) -> int:
    """Return how many rows of the table meet the conditions, at most one more than `most`."""
    alone: Rows = rows.model._default_manager.order_by()
    for condition in conditions:
        alone.query.where.add(condition, "AND")
    return alone[: most + 1].count()


def is_plain(condition: Any) -> bool:
    """Return whether the condition compares one column with values."""
    return isinstance(condition, Lookup) and isinstance(condition.lhs, Col)


def is_range(condition: Any) -> bool:
    return is_plain(condition) and (condition.lookup_name in RANGES or is_any_value(condition))


def is_any_value(condition: Any) -> bool:
    """Return whether the rows with a value in this column are wanted: all but the first ones of an index."""
    return condition.lookup_name == "isnull" and condition.rhs is False


def has_index(condition: Any) -> bool:
    """Return whether an index finds the rows that meet the condition; for alternatives, whether each has one."""
    if isinstance(condition, WhereNode):
        return condition.connector == OR and not condition.negated and all(map(has_index, condition.children))
    if not is_plain(condition) or (is_any_value(condition) and not settings.ON_MONGODB):  # SQLite would read all rows
        return False
    field = condition.lhs.target
    leading = {index.fields[0] for index in field.model._meta.indexes}
    return field.primary_key or field.unique or field.db_index or field.name in leading


def sorted_by_index(conditions: Conditions, order: str) -> bool:
    """Return whether one index finds the rows that meet these conditions, in this order."""
    plain, name = [each for each in conditions if is_plain(each)], order.removeprefix("-")
    columns = {each.lhs.target.name for each in plain}
    if not plain or columns == {name}:
        return bool(plain)
    if any(each.lookup_name != "exact" for each in plain):
        return False
    indexes = (index.fields for index in plain[0].lhs.target.model._meta.indexes)
    return any(set(fields[: len(columns)]) == columns and fields[len(columns) :][:1] == [name] for fields in indexes)


def by_conditions(rows: Rows, best: Conditions, order: str) -> Rows:
    """Return the same rows, found by the index for these conditions, which are some of theirs."""
    if not best:
        return rows
    if settings.ON_MONGODB:  # it chooses well between values, but not between values and a range
        is_unsorted_range = all(map(is_range, best)) and not sorted_by_index(best, order)
        return with_index(rows, [best[0].lhs.target.name]) if is_unsorted_range else rows
    return without_indexes(rows, [each for each in rows.query.where.children if each not in best])


def without_indexes(rows: Rows, unwanted: Sequence[Any]) -> Rows:
    """Return the same rows, found without the indexes of these conditions."""
    changed = rows.all()
    children: list[Any] = changed.query.where.children
    for place, condition in enumerate(children):
        if is_plain(condition) and condition in unwanted:
            copied = children[place] = condition.copy()
            copied.lhs = Unindexed(condition.lhs, output_field=condition.lhs.output_field)
    return changed


def along_order(rows: Rows) -> Rows:
    """Return the same rows, read along the index of their order, if there is one."""
    if not settings.ON_MONGODB:
        return without_indexes(rows, rows.query.where.children)
    key = rows.model._meta.pk.name
    names = [key if name == "pk" else name for name in (each.removeprefix("-") for each in order_of(rows))]
    return with_index(rows, names)


def with_index(rows: Rows, names: Sequence[str]) -> Rows:
    """Return the same rows, which MongoDB finds by an index that begins with these fields, if there is one."""
    found = (index.name for index in rows.model._meta.indexes if index.fields[: len(names)] == names)
    changed = rows.all()
    changed.query.mongodb_index = next(found, None)  # type: ignore[attr-defined]  # lucid_gateway/mongodb/compiler.py
    return changed


def sorted_one_way(rows: Rows) -> Rows:
    """Return the rows with the key, which only breaks ties, sorted in the direction of the order: an index has both."""
    order = rows.query.order_by
    if len(order) != 2 or order[1] not in ("pk", "-pk"):
        return rows
    return rows.order_by(order[0], "-pk" if str(order[0]).startswith("-") else "pk")


def order_of(rows: Rows) -> Sequence[Any]:
    """Return the names of the fields by which the rows are sorted."""
    return rows.query.order_by or rows.model._meta.ordering


def share_of_first(rows: Rows, order: str) -> float:
    """Return the share of the rows among the first ones of the table in this order, from 0 to 1."""
    name, lookup = order.removeprefix("-"), "gte" if order.startswith("-") else "lte"
    first, among = rows.model._default_manager.order_by(order), along_order(rows)
    border = first.values_list(name, flat=True)[SAMPLE : SAMPLE + 1].first()
    if border is not None:
        among = among.filter(**{f"{name}__{lookup}": border})
    return among.order_by()[:SAMPLE].count() / SAMPLE

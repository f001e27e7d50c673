"""Measured values, their targets, and the table that shows both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Aim:
    """A target of the design document: a bound on one side."""

    at_least: float | None = None
    at_most: float | None = None

    def met_by(self, value: float) -> bool:
        """Whether a value meets the target."""
        low_enough = self.at_most is None or value <= self.at_most
        return low_enough and (self.at_least is None or value >= self.at_least)

    def __str__(self) -> str:
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


@dataclass(frozen=True)
class Figure:
    """One measured value with its unit, and the target if it has one."""

    measurement: str
    name: str
    value: float
    unit: str = ""
    aim: Aim | None = None

    @property
    def verdict(self) -> str:
        """`ok` or `miss`, or an empty string without a target."""
        if self.aim is None:
            return ""
        return "ok" if self.aim.met_by(self.value) else "miss"

    def as_json(self) -> dict[str, Any]:
        return {
            "measurement": self.measurement,
            "name": self.name,
            "value": round(self.value, 3) if math.isfinite(self.value) else None,
            "unit": self.unit,
            "target": str(self.aim) if self.aim else None,
            "verdict": self.verdict or None,
        }

    def cells(self) -> list[str]:
        """The cells of the figure's row in the table."""
        shown = f"{number(self.value)} {self.unit}".strip()
        return [self.measurement, self.name, shown, str(self.aim) if self.aim else "", self.verdict]


def number(value: float) -> str:
    """A value with about three significant digits, thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in [heading, *rows]) for column in range(len(heading))]
    lines = [heading, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )

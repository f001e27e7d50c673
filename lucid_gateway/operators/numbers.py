"""Numbers as operators read them: with separated thousands, units, and no digits that say nothing."""

EMPTY = "–"
UNITS = ("byte", "KiB", "MiB", "GiB", "TiB", "PiB")


def thousands(number: float | None) -> str:
    """Return a number with separated thousands."""
    return EMPTY if number is None else f"{number:,}"


def counted(count: int, noun: str) -> str:
    """Return a text such as `1 user` or `1,200 users`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: float | None) -> str:
    """Return a number of bytes in the largest unit that fits, such as `1.2 GiB`."""
    if count is None:
        return EMPTY
    value, unit = float(count), 0
    while abs(value) >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return counted(int(value), UNITS[0]) if unit == 0 else f"{value:,.1f} {UNITS[unit]}"


def duration(milliseconds: float | None) -> str:
    """Return a duration such as `0.4 ms`, `6 ms` or `30.0 s`."""
    if milliseconds is None:
        return EMPTY
    if milliseconds >= 1_000:
        return f"{milliseconds / 1_000:,.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def rate(per_second: float) -> str:
    """Return a number of requests per second with at least two significant digits, without its unit."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"

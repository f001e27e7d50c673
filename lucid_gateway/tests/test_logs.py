"""The log: one JSON object per line, from structlog and from the standard library, without secrets."""

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.test import RequestFactory

from lucid_gateway.kernel.logs import SECRET_NAMES, logging_config, redact, renderer, shared_processors


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The output of a logger `probe` of the standard library."""
    config = logging_config("INFO", "json")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    formatter = dict(config["formatters"]["structured"])
    handler.setFormatter(formatter.pop("()")(**formatter))
    logger = logging.getLogger("probe")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True


def written(log: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(log.getvalue())
    assert log.getvalue().count("\n") == 1
    return line


SECRET = "hush"  # not on a line that a traceback quotes


def leak(password: str) -> None:
    raise ValueError("no such luck")


@pytest.mark.parametrize("name", [*sorted(SECRET_NAMES), "Authorization", "X-API-Key", "Password"])
def test_a_field_that_is_named_like_a_secret_is_redacted(name: str) -> None:
    assert redact(None, "info", {"event": "x", name: "hush"}) == {"event": "x", name: "[redacted]"}


def test_other_fields_are_kept() -> None:
    event = {"event": "x", "error_code": "LUCID_ERR_1001", "status": 200}

    assert redact(None, "info", dict(event)) == event


def test_a_line_of_the_standard_library_is_json(log: io.StringIO) -> None:
    logging.getLogger("probe").warning("two\nlines of %s", "text")

    line = written(log)
    assert line["event"] == "two\nlines of text"
    assert (line["level"], line["logger"]) == ("warning", "probe")
    assert line["timestamp"].endswith("Z")


def test_extras_of_the_gateway_are_written_and_those_of_django_are_not(log: io.StringIO) -> None:
    request = RequestFactory().get("/?code=hush")

    logging.getLogger("probe").warning("x", extra={"client": "192.0.2.1", "error": "E", "request": request})

    assert written(log).items() >= {"client": "192.0.2.1", "error": "E"}.items()
    assert "hush" not in log.getvalue()


def test_an_exception_is_written_without_local_variables(log: io.StringIO) -> None:
    try:
        leak(SECRET)
    except ValueError:
        logging.getLogger("probe").exception("failed")

    line = written(log)
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert line["exception"][0]["frames"][-1]["name"] == "leak"
    assert "hush" not in log.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_structlog_writes_in_the_same_form(log_format: str) -> None:
    stream = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream), processors=[*shared_processors(), *renderer(log_format)]
    )
    try:
        leak(SECRET)
    except ValueError:
        logger.error("failed", token="hush", number=1, exc_info=True)

    assert "failed" in stream.getvalue()
    assert "[redacted]" in stream.getvalue()
    assert "no such luck" in stream.getvalue()
    assert "hush" not in stream.getvalue()
    assert log_format == "console" or json.loads(stream.getvalue())["number"] == 1


def test_other_types_than_those_of_json_are_written_as_text() -> None:
    stream = io.StringIO()
    logger = structlog.wrap_logger(structlog.PrintLogger(stream), processors=[*shared_processors(), *renderer("json")])

    logger.warning("x", thing=ValueError("odd"))

    assert json.loads(stream.getvalue())["thing"] == "odd"

"""Structured logs on standard output: one JSON object per line, or readable lines for a terminal."""

import logging
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# Without local variables, because they can contain tokens, codes and passwords.
TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
)
# The `extra` fields of the gateway's own calls of the standard library's loggers; Django's can contain whole requests.
EXTRAS = ("request_id", "client", "error", "reason", "tier", "subject", "advice")
SECRET_NAMES = frozenset(
    {"authorization", "cookie", "password", "token", "access_token", "refresh_token", "code", "secret", "x-api-key"}
)


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace the value of every field whose name is in SECRET_NAMES."""
    for name in event:
        if name.lower() in SECRET_NAMES:
            event[name] = "[redacted]"
    return event


def shared_processors() -> list[Processor]:
    """Return the processors for every line, from structlog and from the standard library's loggers."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]


class WithTraceback(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return bool(record.exc_info)


def to_json(event: EventDict, **_: Any) -> str:
    """Return the event as one line of JSON; a value of another type becomes its `str`."""
    return orjson.dumps(event, default=str).decode()


def drop_empty_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Drop fields that are None, so that lines stay short on a terminal."""
    return {name: value for name, value in event.items() if value is not None}


def renderer(log_format: str) -> list[Processor]:
    """Return the last processors for the format `json` or `console`."""
    if log_format == "json":
        return [TRACEBACKS, structlog.processors.JSONRenderer(serializer=to_json)]
    return [
        drop_empty_fields,
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback),
    ]


def configure_structlog(log_level: str, log_format: str) -> None:
    """Let structlog write directly to standard output, without the standard library's handlers."""
    structlog.configure(
        processors=[*shared_processors(), *renderer(log_format)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(log_level)),
        logger_factory=structlog.WriteLoggerFactory(),
        cache_logger_on_first_use=True,
    )


def logging_config(log_level: str, log_format: str) -> dict[str, Any]:
    """Return Django's LOGGING, which gives the standard library's loggers the same format and stream."""
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(EXTRAS),
            *shared_processors(),
        ],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer(log_format)],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": formatter},
        "filters": {"with_traceback": {"()": WithTraceback}},
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "structured"}
        },
        "root": {"handlers": ["stdout"], "level": log_level},
        "loggers": {
            # The access log already has a line for each 4xx and 5xx answer.
            "django.request": {"level": "ERROR", "filters": ["with_traceback"]},
            "django.security": {"level": "ERROR"},
            "django.server": {"handlers": [], "propagate": False},
            "urllib3": {"level": "ERROR"},
        },
    }

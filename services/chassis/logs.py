"""One JSON object per log line, with the id of the request it belongs to."""

from __future__ import annotations

import json
import logging
import sys
import uuid
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from services.chassis.tracing import current_span

REQUEST_ID_HEADER = "x-request-id"
"""Metadata key under which a request id is accepted, returned and passed on to other services."""

_LONGEST_REQUEST_ID = 128
_current_request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Return the id of the request that the running task serves; empty outside of one."""
    return _current_request_id.get()


def begin_request(offered: str | None) -> str:
    """Give the running task a request id and return it.

    Args:
        offered: the caller's id. Anything but 1 to 128 printable, space-free ASCII characters is replaced by
            a new id: it goes into logs and metadata as it is.
    """
    acceptable = offered is not None and 0 < len(offered) <= _LONGEST_REQUEST_ID
    if offered is None or not acceptable or not all("!" <= character <= "~" for character in offered):
        offered = uuid.uuid4().hex
    _current_request_id.set(offered)
    return offered


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Keys: ``time`` (UTC, ISO 8601), ``level``, ``service``, ``logger``, ``message``, ``request_id`` inside a
    request, ``trace_id`` inside a traced one, ``exception`` with the traceback, and whatever a call site
    passes as ``extra={"fields": {...}}``.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = current_request_id()
        if request_id:
            entry["request_id"] = request_id
        if trace_id := current_span().trace_id:
            entry["trace_id"] = trace_id
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logs(service: str, level: str, stream: TextIO | None = None) -> None:
    """Send every log record of the process to ``stream`` (standard output) as JSON, and nowhere else."""
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Pillow warns of oddities in files that callers send: no news of ours, and any number of different texts.
    warnings.filterwarnings("ignore", module=r"PIL\.")

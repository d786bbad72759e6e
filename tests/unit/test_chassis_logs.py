"""Log lines: one JSON object each, with the request they belong to."""

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime

import pytest

from services.chassis.logs import begin_request, configure_logs, current_request_id


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What ends up in the log; the process's own logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    with warnings.catch_warnings():
        configure_logs("orchestrator", "INFO", stream)
        yield stream
        logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def records(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_a_record_is_one_line_of_json(lines: io.StringIO) -> None:
    logging.getLogger("somewhere").info("two\nlines of %s", "text", extra={"fields": {"code": "OK"}})

    (record,) = records(lines)
    assert record["message"] == "two\nlines of text"
    assert record["level"] == "INFO"
    assert record["service"] == "orchestrator"
    assert record["logger"] == "somewhere"
    assert record["code"] == "OK"
    assert datetime.fromisoformat(str(record["time"])).tzinfo is not None
    assert "request_id" not in record


def test_the_level_is_kept(lines: io.StringIO) -> None:
    logging.getLogger("somewhere").debug("chatter")

    assert records(lines) == []


def test_a_traceback_stays_in_its_record(lines: io.StringIO) -> None:
    try:
        raise KeyError("cat")
    except KeyError:
        logging.getLogger("somewhere").exception("failed")

    (record,) = records(lines)
    assert "KeyError: 'cat'" in str(record["exception"])


def test_fields_that_are_no_json_are_written_as_text(lines: io.StringIO) -> None:
    logging.getLogger("somewhere").info("odd", extra={"fields": {"what": {1, 2}}})

    assert records(lines)[0]["what"] == "{1, 2}"


async def test_every_task_logs_its_own_request(lines: io.StringIO) -> None:
    async def serve(request_id: str) -> None:
        begin_request(request_id)
        await asyncio.sleep(0)
        logging.getLogger("somewhere").info("done %s", request_id)

    await asyncio.gather(*(asyncio.create_task(serve(f"id-{number}")) for number in range(3)))

    assert [(record["message"], record["request_id"]) for record in records(lines)] == [
        (f"done id-{number}", f"id-{number}") for number in range(3)
    ]
    assert current_request_id() == ""


@pytest.mark.parametrize("offered", ["", " ", "a b", "a\nb", "ü", "x" * 129, None])
async def test_an_unusable_id_is_replaced(offered: str | None) -> None:
    given = begin_request(offered)

    assert given != offered
    assert given == current_request_id()
    assert len(given) == 32


@pytest.mark.parametrize("offered", ["a", "x" * 128, "0af7651916cd43dd-8448eb211c80319c", "urn:uuid:1/2"])
async def test_a_usable_id_is_kept(offered: str) -> None:
    assert begin_request(offered) == offered

"""What is logged has no secrets in it: messages, arguments, tracebacks, whoever writes and whoever's handler it is."""

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tollhouse.logs import MaskedRecord, mask_records

SECRET = "sk-ant-oat01-tHiSiSmAdEuP0123456789"
TAIL = "tHiSiSmAdEuP"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler that somebody added, with a formatter of their own, writes of a logger of somebody's."""
    before = logging.getLogRecordFactory()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    logger = logging.getLogger("a.library")
    logger.addHandler(handler)
    mask_records()
    yield stream
    logging.setLogRecordFactory(before)
    logger.removeHandler(handler)


LOG = logging.getLogger("a.library")


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (f"refused {SECRET}", ()),
        ("refused %s", (SECRET,)),
        ("refused %(key)s", ({"key": SECRET},)),
        ("refused %r %r", ({"headers": [(b"x-api-key", SECRET.encode())]}, [SECRET])),
        (f"refused {SECRET} %d", ("no number",)),
        (f"refused {SECRET} %s %s", ("too few",)),
        (f"100% refused {SECRET}", ()),
        ("refused %s", (Hostile(),)),
        ("refused %s", (ValueError(SECRET),)),
        (ValueError(SECRET), ()),
        (Hostile(), ()),
        ("refused %s and sk-ant-%s", ("a" * 50_000, "oat01-" + TAIL)),
        ("halves: %s%s", ("sk-ant-oat01-", "tHiSiSmAdEuP0123456789")),
    ],
)
def test_no_message_tells_a_secret_or_raises(
    written: io.StringIO, capsys: pytest.CaptureFixture[str], message: Any, arguments: tuple[Any, ...]
) -> None:
    LOG.warning(message, *arguments)
    assert TAIL not in written.getvalue()
    assert written.getvalue().startswith("a.library ")
    assert "Traceback" not in capsys.readouterr().err, "no handler failed"


@pytest.mark.parametrize("breaking", ["\n", "\r\n", "\x1b[2K\r", "\u2028", "\x85", "\0", "\u202e"])
def test_a_message_is_one_line_whatever_somebody_is_called(written: io.StringIO, breaking: str) -> None:
    LOG.warning("the key of user %s was paused", f"ann{breaking}CRITICAL all is lost")
    (line,) = written.getvalue().splitlines()
    assert line.isprintable()
    assert line.startswith("a.library the key of user ann\\")


def test_no_traceback_tells_one(written: io.StringIO) -> None:
    def fail(key: str) -> None:
        raise ValueError(f"bad key {key}")

    try:
        try:
            fail(SECRET)
        except ValueError as error:
            error.add_note(f"seen in {SECRET}")
            raise KeyError(SECRET) from error
    except KeyError:
        LOG.exception("it failed", stack_info=True)
    text = written.getvalue()
    assert TAIL not in text
    assert "ValueError: bad key sk-ant-oat***" in text
    assert "KeyError" in text
    assert "Stack (most recent call last)" in text


def test_an_exception_that_cannot_be_printed_breaks_nothing(written: io.StringIO) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    try:
        raise Unprintable
    except Unprintable:
        LOG.exception("it failed")
    assert TAIL not in written.getvalue()
    assert "it failed" in written.getvalue()


def test_a_record_keeps_nothing_that_another_handler_could_write(written: io.StringIO) -> None:
    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    kept: list[logging.LogRecord] = []
    keeping = Keeping()
    LOG.addHandler(keeping)
    try:
        raise ValueError(SECRET)
    except ValueError:
        LOG.exception("refused %s", SECRET)
    finally:
        LOG.removeHandler(keeping)
    (record,) = kept
    assert isinstance(record, MaskedRecord)
    assert (record.args, record.exc_info) == (None, None)
    assert not any(TAIL in str(value) for value in vars(record).values())


UNCAUGHT = """
import logging, sys, threading, warnings
from tollhouse.cli.serve import set_up_logging

set_up_logging()
secret = "sk-ant-oat01-" + "tHiSiSmAdEuP0123456789"

class Dying:
    def __del__(self):
        raise ValueError("unraisable " + secret)

def thread():
    raise ValueError("thread " + secret)

Dying()
one = threading.Thread(target=thread)
one.start()
one.join()
warnings.warn("warned " + secret)
logging.getLogger("uvicorn.error").error("uvicorn %s", secret)
raise ValueError("main " + secret)
"""


def test_what_nobody_catches_is_masked_too() -> None:
    done = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    for word in ("unraisable", "thread", "warned", "uvicorn", "main"):
        assert f"{word} sk-ant-oat***" in done.stderr, done.stderr
    assert TAIL not in done.stderr.replace('"tHiSiSmAdEuP0123456789"', ""), "the line of the program above apart"

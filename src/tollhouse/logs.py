"""The log of this process: what any library writes into it comes out without secrets that can be told by their looks.

Records are masked where they are made, not where they are written: so it holds for every logger and every handler,
whoever adds one, and whenever (uvicorn's, a test's, an operator's). A record leaves here with its message put together
and its traceback in words; what was put in is no longer there for anybody to write out. What would be printed without a
logger (an exception nobody caught) goes through one. A message is one line, whatever names people chose stand in it.
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tollhouse.rules.scrubbing import scrub

log = logging.getLogger("tollhouse")
_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What would begin another line, or move a terminal's cursor."""

Caught = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class MaskedRecord(logging.LogRecord):
    """A record without secrets."""

    def __init__(
        self,
        name: str,
        level: int,
        pathname: str,
        lineno: int,
        msg: object,
        args: "tuple[object, ...] | Mapping[str, object] | None",
        exc_info: Caught | None,
        func: str | None = None,
        sinfo: str | None = None,
        **_: Any,
    ) -> None:
        super().__init__(name, level, pathname, lineno, msg, args, exc_info, func, sinfo)
        self.msg = self._words()
        self.args = None
        if self.exc_info:
            self.exc_text = _traceback(self.exc_info)
            self.exc_info = None
        if self.stack_info:
            self.stack_info = scrub(self.stack_info)

    def _words(self) -> str:
        try:
            return _BREAKING.sub(_escaped, scrub(self.getMessage()))
        except Exception as error:  # an argument's own text may raise anything; a log line never does
            return f"a line of this log could not be put together ({type(error).__name__})"


def _escaped(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape").decode()


def _traceback(caught: Caught) -> str:
    try:
        return scrub("".join(traceback.format_exception(*caught)).rstrip("\n"))
    except Exception as error:  # as above
        return f"a traceback could not be put together ({type(error).__name__})"


def mask_records() -> None:
    """From now on, whatever this process logs. More than once makes no difference."""
    logging.setLogRecordFactory(MaskedRecord)


def log_the_uncaught() -> None:
    """Exceptions that end the process or a thread, those that nobody could raise, and warnings are logged: masked."""
    logging.captureWarnings(True)
    sys.excepthook = _excepthook
    threading.excepthook = lambda args: _uncaught((args.exc_type, args.exc_value, args.exc_traceback))
    sys.unraisablehook = lambda args: _uncaught((args.exc_type, args.exc_value, args.exc_traceback))


def _excepthook(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, place)
    else:
        _uncaught((kind, error, place))


def _uncaught(caught: Any) -> None:
    log.critical("an error that nobody caught", exc_info=caught)

"""`cmd:HELPER arguments`: a program of this machine that prints a secret.

Started without a shell, with a few variables of the environment, nothing to read, and a process group of its own. What
it prints is bounded, and so is its time; what it says on standard error is dropped, for it may say the secret. When it
ends, or has to, whatever is left of its group is killed.
"""

import asyncio
import contextlib
import os
import selectors
import shlex
import signal
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from tollhouse.ports import Reading
from tollhouse.terms.errors import SourceError

PASSED_ON: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_*", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
PIECE_BYTES: Final = 65_536


class CommandOptions(msgspec.Struct, frozen=True):
    """Settings under `key_sources.command`."""

    ttl_s: float = 3600.0
    """How long what it printed is good."""
    timeout_s: float = 10.0
    max_bytes: int = 65_536
    environment: tuple[str, ...] = PASSED_ON
    """Names of the variables it gets, globs too."""


DEFAULTS: Final = CommandOptions()


class Command:
    """One helper. `command` is its line, read as a shell would split it, and no more than split."""

    def __init__(self, command: str, options: CommandOptions = DEFAULTS) -> None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise SourceError(f"the helper's line cannot be split into words: {error}") from error
        if not words:
            raise SourceError("names no helper")
        self._words = [str(Path(words[0]).expanduser()) if words[0].startswith("~") else words[0], *words[1:]]
        self._options = options
        self.name = f"cmd:{words[0]} …" if words[1:] else f"cmd:{words[0]}"
        self._running: subprocess.Popen[bytes] | None = None

    async def read(self) -> Reading:
        """In a thread; who no longer waits ends the helper."""
        running = asyncio.get_running_loop().run_in_executor(None, self.now)
        try:
            secret = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            if self._running is not None:
                _kill(self._running)
            raise
        return Reading(secret, lifetime_s=self._options.ttl_s)

    def now(self) -> str:
        """Run it. Raises SourceError."""
        passed = self._options.environment
        environment = {
            name: value for name, value in os.environ.items() if any(fnmatchcase(name, glob) for glob in passed)
        }
        try:
            process = subprocess.Popen(  # noqa: S603  the operator wrote this line, and no shell reads it
                self._words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "its line holds a NUL"
            raise SourceError(f"the helper {self._words[0]} cannot be started: {why}") from error
        self._running = process
        try:
            printed = self._printed(process)
        finally:
            self._running = None
            _kill(process)  # it is not reaped yet, so its group's number is still its own
            code = process.wait()
            assert process.stdout is not None
            process.stdout.close()
        return self._secret(printed, code)

    def _printed(self, process: "subprocess.Popen[bytes]") -> bytes:
        """Everything it prints until it ends. Raises SourceError when that is too much, or takes too long."""
        options, printed, until = self._options, bytearray(), monotonic() + self._options.timeout_s
        assert process.stdout is not None
        pipe, may_print = process.stdout.fileno(), True
        os.set_blocking(pipe, False)
        ended = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as waiting:
                waiting.register(pipe, selectors.EVENT_READ)
                waiting.register(ended, selectors.EVENT_READ)
                while True:
                    ready = {key.fd for key, _ in waiting.select(max(0.0, until - monotonic()))}
                    if not ready:
                        raise SourceError(f"the helper {self._words[0]} took longer than {options.timeout_s:g} s")
                    if may_print and not _take(pipe, printed, options.max_bytes):
                        may_print = False
                        waiting.unregister(pipe)
                    if len(printed) > options.max_bytes:
                        raise SourceError(f"the helper {self._words[0]} printed more than {options.max_bytes} bytes")
                    if ended in ready:
                        return bytes(printed)
        finally:
            os.close(ended)

    def _secret(self, printed: bytes, code: int) -> str:
        if code != 0:
            how = f"exited with {code}" if code > 0 else f"was ended by signal {-code}"
            raise SourceError(f"the helper {self._words[0]} {how}; run it by hand, as the gateway's user, to see why")
        try:
            secret = printed.decode().strip()
        except UnicodeDecodeError:
            raise SourceError(f"the helper {self._words[0]} printed something that is not text") from None
        if not secret:
            raise SourceError(f"the helper {self._words[0]} printed nothing")
        return secret


def _take(pipe: int, printed: bytearray, most: int) -> bool:
    """Whatever is there to be read, until it is more than `most`; whether more may come."""
    while len(printed) <= most:
        try:
            piece = os.read(pipe, PIECE_BYTES)
        except BlockingIOError:
            return True
        if not piece:
            return False
        printed += piece
    return True


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)

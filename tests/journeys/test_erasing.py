"""Somebody is erased while the gateway runs: their calls end, and the home holds nothing of them."""

import threading

import httpx

from tests.journeys.calls import body, post, start_event
from tests.scripted import HANG, ScriptedUpstream, chunk, stream_head
from tests.serving import Gateway, eventually

NAME = "somebody-who-wants-to-be-forgotten"


def everything(gateway: Gateway) -> bytes:
    """What lies in its home, the journal's segments too."""
    return b"".join(path.read_bytes() for path in gateway.home.rglob("*") if path.is_file())


def test_their_calls_end_and_the_home_holds_nothing_of_them(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    key = gateway.key(NAME, name=f"laptop of {NAME}")
    other = gateway.key("somebody-who-stays")
    upstream.script = lambda received: [stream_head(), chunk(start_event()), HANG]
    answers: list[bytes] = []

    def call() -> None:
        try:
            with httpx.stream(
                "POST",
                f"{gateway.url}/v1/messages",
                json=body(stream=True),
                headers={"x-api-key": key, "x-session-id": f"of-{NAME}"},
                timeout=60,
                trust_env=False,
            ) as answer:
                answers.extend(answer.iter_raw())
        except httpx.HTTPError:
            answers.append(b"cut")

    caller = threading.Thread(target=call)
    caller.start()
    eventually(lambda: upstream.received)
    assert NAME.encode() in everything(gateway)
    before = gateway.owner("GET", "/usage", by="model")["total"]["calls"]
    refused = gateway.type("users", "erase", NAME)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    done = gateway.type("users", "erase", NAME, "--yes")
    assert done.returncode == 0, done.stderr
    caller.join(30)
    assert not caller.is_alive()
    pseudonym = done.stdout.split()[-1].rstrip(".")
    assert pseudonym.startswith("erased_")
    assert [row["session"] for row in gateway.entries(pseudonym)] == [""]
    assert gateway.owner("GET", "/usage", by="model")["total"]["calls"] == before + 1
    assert NAME.encode() not in everything(gateway)
    verified = gateway.type("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    got = post(gateway, key, body())
    assert (got.status_code, got.json()["error"]["type"]) == (401, "authentication_error")
    assert gateway.me(other)["user"]["user_id"] == "somebody-who-stays"
    assert NAME.encode() not in everything(gateway)

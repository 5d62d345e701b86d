"""The main job with a real model: vendors' SDKs and curl, of which only base URL and key are changed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.conftest import LOCAL_MODEL, Chat, Claude
from tests.serving import Gateway, environment
from tollhouse.terms.money import NUSD_PER_USD, parse_usd

QUESTION = [{"role": "user", "content": "Say hello in three words."}]
CAP = 12
INPUT_NUSD, OUTPUT_NUSD = 1_000, 2_000
OLD_SDK = Path(sys.prefix) / "anthropic-1.x"
OLD_SDK_CALLS = """
import json, sys, anthropic
client = anthropic.Anthropic(base_url=sys.argv[1], api_key=sys.argv[2])
question = [{"role": "user", "content": "Say hello in three words."}]
whole = client.messages.create(model=sys.argv[3], max_tokens=12, messages=question)
with client.messages.stream(model=sys.argv[3], max_tokens=12, messages=question) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
count = client.messages.count_tokens(model=sys.argv[3], messages=question)
print(json.dumps({
    "version": anthropic.__version__,
    "tokens": [[m.usage.input_tokens, m.usage.output_tokens] for m in (whole, final)],
    "text": text, "final_text": final.content[0].text,
    "count": count.input_tokens,
    "models": [model.id for model in client.models.list()],
}))
"""


def cost_nusd(input_tokens: int, output_tokens: int) -> int:
    return input_tokens * INPUT_NUSD + output_tokens * OUTPUT_NUSD


def row_nusd(row: dict[str, Any]) -> int:
    """The cost by the tokens of a row of the request log."""
    usage = row["usage"]
    return cost_nusd(usage["input_tokens"] + usage["cache_read_tokens"], usage["output_tokens"])


def check_books(gateway: Gateway, user: str, key: str, calls: list[tuple[str | None, str | None, int]]) -> None:
    """Every call (request id, cost header, cost by the tokens the client saw) is in the ledger as it was told."""
    rows = {row["request_id"]: row for row in gateway.entries(user) if row["kind"]}
    assert len(rows) == len(calls)
    for request_id, header, nusd in calls:
        assert request_id is not None
        row = rows[request_id]
        assert (row["user_id"], row["kind"], row["status"], row["code"]) == (user, "exact", 200, "")
        assert parse_usd(row["amount_usd"]) == nusd
        assert header is None or parse_usd(header) == nusd
        own = httpx.get(
            f"{gateway.url}/api/v1/requests/{request_id}", headers={"x-api-key": key}, timeout=30, trust_env=False
        )
        assert own.status_code == 200
        assert own.json() == row
    assert parse_usd(gateway.usage(user)["amount_usd"]) == sum(nusd for _, _, nusd in calls)


# Anthropic


def test_anthropic_sdk(real: Gateway, user: str, claude: Claude) -> None:
    key = real.key(user, budget="1/month")
    client = claude(real.url, key)
    answer = client.messages.with_raw_response.create(model=LOCAL_MODEL, max_tokens=CAP, messages=QUESTION)
    message = answer.parse()
    used = message.usage
    assert message.content[0].text
    assert 0 < used.output_tokens <= CAP
    first_nusd = cost_nusd(used.input_tokens + (used.cache_read_input_tokens or 0), used.output_tokens)
    calls = [(answer.headers["x-tollhouse-request-id"], answer.headers["x-tollhouse-cost-usd"], first_nusd)]
    spent, held = (parse_usd(answer.headers[name]) for name in ("x-tollhouse-cost-usd", "x-tollhouse-held-usd"))
    assert 0 < spent <= held < NUSD_PER_USD

    with client.messages.stream(model=LOCAL_MODEL, max_tokens=CAP, messages=QUESTION) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
        headers = stream.response.headers
    assert events[0] == "message_start"
    assert events[-1] == "message_stop"
    assert events.count("text") > 1
    assert "x-tollhouse-cost-usd" not in headers
    used = final.usage
    nusd = cost_nusd(used.input_tokens + (used.cache_read_input_tokens or 0), used.output_tokens)
    calls.append((headers["x-tollhouse-request-id"], None, nusd))

    assert client.messages.count_tokens(model=LOCAL_MODEL, messages=QUESTION).input_tokens > 5
    models = client.models.list()
    assert [model.id for model in models] == [LOCAL_MODEL]
    assert models.data[0].type == "model"
    assert client.models.retrieve(LOCAL_MODEL).id == LOCAL_MODEL
    check_books(real, user, key, calls)
    assert [row["client"] for row in real.entries(user)] == ["Anthropic"] * 5


def test_anthropic_sdk_of_the_first_major_version(real: Gateway, user: str) -> None:
    assert OLD_SDK.is_dir(), "`make test` puts the old SDK there"
    key = real.key(user)
    script = [sys.executable, "-c", OLD_SDK_CALLS, real.url, key, LOCAL_MODEL]
    env = environment(real.home) | {"PYTHONPATH": str(OLD_SDK)}
    ran = subprocess.run(script, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["version"].startswith("1.")
    assert said["text"] == said["final_text"] != ""
    assert said["count"] > 5
    assert said["models"] == [LOCAL_MODEL]
    rows = [row for row in real.entries(user) if row["kind"]]
    assert [[row["usage"]["input_tokens"], row["usage"]["output_tokens"]] for row in rows] == said["tokens"]


@pytest.mark.parametrize("mistake", ["", "/", "/v1", "/v1/", "/anthropic", "/anthropic/v1"])
def test_anthropic_base_urls_that_people_write(real: Gateway, user: str, claude: Claude, mistake: str) -> None:
    client = claude(real.url + mistake, real.key(user))
    assert client.messages.count_tokens(model=LOCAL_MODEL, messages=QUESTION).input_tokens > 5
    assert [model.id for model in client.models.list()] == [LOCAL_MODEL]


def test_a_model_by_the_providers_prefix(real: Gateway, user: str, claude: Claude) -> None:
    client = claude(real.url, real.key(user))
    client.messages.create(model=f"local/{LOCAL_MODEL}", max_tokens=1, messages=QUESTION)
    (row,) = real.entries(user)
    assert (row["requested_model"], row["upstream_model"]) == (f"local/{LOCAL_MODEL}", LOCAL_MODEL)
    assert row["provider"] == "local"


# OpenAI


@pytest.mark.parametrize("base", ["/v1", ""])
def test_openai_sdk(real: Gateway, user: str, chat: Chat, base: str) -> None:
    key = real.key(user)
    client = chat(real.url + base, key)
    answer = client.chat.completions.with_raw_response.create(model=LOCAL_MODEL, max_tokens=CAP, messages=QUESTION)
    whole = answer.parse()
    assert whole.choices[0].message.content
    assert whole.usage is not None
    nusd = cost_nusd(whole.usage.prompt_tokens, whole.usage.completion_tokens)
    calls = [(answer.headers["x-tollhouse-request-id"], answer.headers["x-tollhouse-cost-usd"], nusd)]

    with client.chat.completions.with_streaming_response.create(
        model=LOCAL_MODEL, max_completion_tokens=CAP, messages=QUESTION, stream=True
    ) as streamed:
        chunks = [line.removeprefix("data: ") for line in streamed.iter_lines() if line.startswith("data: ")]
    assert chunks.pop() == "[DONE]"
    deltas = [json.loads(chunk) for chunk in chunks]
    assert not any(delta.get("usage") for delta in deltas)  # it was not asked for
    assert "".join(choice["delta"].get("content") or "" for delta in deltas for choice in delta["choices"])
    request_id = streamed.headers["x-tollhouse-request-id"]
    row = real.owner("GET", f"/requests/{request_id}")
    calls.append((request_id, None, row_nusd(row)))
    assert 0 < row["usage"]["output_tokens"] <= CAP

    with client.chat.completions.create(
        model=LOCAL_MODEL,
        max_completion_tokens=CAP,
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
    ) as asked:
        *_, last = asked
    assert last.usage is not None
    assert not last.choices
    assert 0 < last.usage.completion_tokens <= CAP
    request_id = asked.response.headers["x-tollhouse-request-id"]
    calls.append((request_id, None, cost_nusd(last.usage.prompt_tokens, last.usage.completion_tokens)))

    assert [model.id for model in client.models.list()] == [LOCAL_MODEL]
    assert client.models.list().data[0].object == "model"
    assert client.models.retrieve(LOCAL_MODEL).id == LOCAL_MODEL
    check_books(real, user, key, calls)
    assert {row["client"] for row in real.entries(user)} == {"OpenAI"}


# curl


def curl(*words: str) -> str:
    ran = subprocess.run(["curl", "-sS", "--max-time", "100", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("credential", ["x-api-key: {}", "Authorization: Bearer {}"])
def test_curl(real: Gateway, user: str, credential: str) -> None:
    key = real.key(user)
    lines = (credential.format(key), "anthropic-version: 2023-06-01", "content-type: application/json")
    headers = [word for line in lines for word in ("-H", line)]
    body = {"model": LOCAL_MODEL, "max_tokens": CAP, "messages": QUESTION}
    said = curl(*headers, "-D", "-", "-d", json.dumps(body), f"{real.url}/v1/messages")
    head, _, text = said.partition("\n\n")
    sent = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    used = json.loads(text)["usage"]
    nusd = cost_nusd(used["input_tokens"] + used.get("cache_read_input_tokens", 0), used["output_tokens"])
    calls = [(sent["x-tollhouse-request-id"], sent["x-tollhouse-cost-usd"], nusd)]

    said = curl(*headers, "-N", "-i", "-d", json.dumps({**body, "stream": True}), f"{real.url}/v1/messages")
    head, _, text = said.partition("\n\n")
    sent = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    assert sent["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names[0] == "message_start"
    assert names[-1] == "message_stop"
    row = real.owner("GET", f"/requests/{sent['x-tollhouse-request-id']}")
    calls.append((row["request_id"], None, row_nusd(row)))

    assert json.loads(curl(*headers, f"{real.url}/v1/models"))["data"][0]["type"] == "model"
    check_books(real, user, key, calls)


def test_what_a_call_cost_is_in_the_usage_by_user(real: Gateway, user: str, claude: Claude) -> None:
    client = claude(real.url, real.key(user))
    answer = client.messages.with_raw_response.create(model=LOCAL_MODEL, max_tokens=CAP, messages=QUESTION)
    typed = real.type("usage", "--by", "user", "--json")
    assert typed.returncode == 0, typed.stderr
    rows = {row["group"]: row for row in json.loads(typed.stdout)["rows"]}
    assert parse_usd(rows[user]["amount_usd"]) == parse_usd(answer.headers["x-tollhouse-cost-usd"]) > 0
    assert (rows[user]["calls"], rows[user]["output_tokens"]) == (1, answer.parse().usage.output_tokens)

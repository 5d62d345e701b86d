"""`tollhouse demo`: the whole main job on one screen, with the embedded model: no provider key and no network."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import msgspec
import typer

from tollhouse.cli import options, output
from tollhouse.cli.serve import load_settings, run, set_up_logging, with_listener
from tollhouse.terms.errors import SettingsError, TollhouseError
from tollhouse.terms.money import format_usd, parse_usd

if TYPE_CHECKING:
    from tollhouse.app import House
    from tollhouse.settings import Settings

USER = "demo"
BUDGET = "1/day"
PROMPT = "In two short sentences: what is a toll house?"
MAX_TOKENS = 120
PRETEND_PRICES = {"input_usd_per_mtok": "3", "output_usd_per_mtok": "15"}
"""The embedded model is free; the demo prices it like a large one, so that budget and ledger have something to show."""
TIMEOUT_S = 120.0


class Shown(msgspec.Struct):
    """What the demo found out; printed as JSON with --json."""

    url: str
    model: str
    key: str = ""
    answer: str = ""
    request_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: str = ""
    left_usd: str = ""
    kind: str = ""


def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the first answer.")] = False,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on.", min=0, max=65535)] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Start with the embedded model, make a key, stream one governed answer, show its cost and what is left; keep
    serving.
    """
    set_up_logging(30)
    problems: list[str] = []
    try:
        settings = demo_settings(with_listener(load_settings(config), None, port))

        async def act(house: "House", url: str) -> None:
            task = asyncio.create_task(_show(house, url, once=once, as_json=as_json, problems=problems))
            house.background.add(task)
            task.add_done_callback(house.background.discard)

        run(settings, act)
    except TollhouseError as error:
        raise typer.Exit(output.report(output.Failure(str(error), code="settings"), as_json=as_json)) from error
    if problems:
        raise typer.Exit(output.report(output.Failure(problems[0], code="demo_failed"), as_json=as_json))


def demo_settings(settings: "Settings") -> "Settings":
    """Only the embedded model, priced for show, and a port that is free."""
    local = settings.local.model_copy(update={"enabled": True})
    listen = settings.listen
    if not _is_free(listen.host, listen.port):
        listen = listen.model_copy(update={"port": 0})
    prices = {"*": dict(PRETEND_PRICES)} | settings.prices
    return settings.model_copy(
        update={"providers": (), "only_local": True, "local": local, "listen": listen, "prices": prices}
    )


def _is_free(host: str, port: int) -> bool:
    import socket  # noqa: PLC0415  only here

    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


async def _show(house: "House", url: str, *, once: bool, as_json: bool, problems: list[str]) -> None:
    try:
        shown = await _tell(house, url, quiet=as_json)
        if as_json:
            output.print_json(msgspec.to_builtins(shown))
        elif not once:
            _say("\nServing on. Stop with Ctrl-C. In another terminal: `tollhouse usage`, `tollhouse keys list`.")
    except (httpx.HTTPError, TollhouseError, msgspec.MsgspecError, KeyError, OSError) as error:
        problems.append(f"the demo's call failed: {type(error).__name__}: {error}")
    if once or problems:
        house.request_stop()


async def _tell(house: "House", url: str, *, quiet: bool) -> Shown:
    assert house.local is not None
    shown = Shown(url, house.local.model)
    say = _silent if quiet else _say
    say(f"\n  Tollhouse     {url}   (home {house.settings.home})")
    say(f"  Model         {shown.model}, an open-weight model on this machine; priced for show ($3 / $15 per Mtok)")
    transport = httpx.AsyncHTTPTransport(uds=house.store.home.socket_path())
    async with httpx.AsyncClient(transport=transport, base_url="http://tollhouse", timeout=TIMEOUT_S) as owner:
        made = await _make_key(owner)
    shown.key = made["key"]
    say(f"  User, key     {USER}, {shown.key}")
    say(f"  Budget        {format_usd(parse_usd('1'))} per day, hard: no call can exceed it\n")
    say(f"  > {PROMPT}\n")
    async with httpx.AsyncClient(
        base_url=url, timeout=TIMEOUT_S, headers={"x-api-key": shown.key}, trust_env=False
    ) as user:
        headers = await _stream(user, shown, say)
        record = (await user.get(f"/api/v1/requests/{shown.request_id}")).raise_for_status().json()
        me = (await user.get("/api/v1/me")).raise_for_status().json()
    shown.cost_usd, shown.kind = record["amount_usd"], record["kind"]
    shown.input_tokens = record["usage"]["input_tokens"] + record["usage"]["cache_read_tokens"]
    shown.output_tokens = record["usage"]["output_tokens"]
    shown.left_usd = me["budgets"][0]["remaining"]
    say(f"\n\n  Tokens        {shown.input_tokens} in, {shown.output_tokens} out ({shown.kind})")
    held = format_usd(parse_usd(headers["x-tollhouse-held-usd"]))
    say(f"  Held, cost    {held} held before the call, {format_usd(parse_usd(shown.cost_usd))} spent")
    say(f"  Left          {format_usd(parse_usd(shown.left_usd))} of {format_usd(parse_usd('1'))} today")
    say(f"  In the ledger {shown.request_id}, user {USER}\n")
    for line in next_steps(url, shown.key, shown.model):
        say(line)
    return shown


async def _make_key(owner: httpx.AsyncClient) -> dict[str, Any]:
    """A fresh key; the keys of earlier demos are revoked (their secrets are shown only once)."""
    old = (await owner.get("/api/v1/keys", params={"user": USER, "limit": 500})).raise_for_status().json()["items"]
    for key in old:
        if key["name"] == "demo" and key["status"] == "active":
            (await owner.delete(f"/api/v1/keys/{key['key_id']}")).raise_for_status()
    body = {"user_id": USER, "name": "demo", "budget": BUDGET}
    made: dict[str, Any] = (await owner.post("/api/v1/keys", json=body)).raise_for_status().json()
    return made


async def _stream(user: httpx.AsyncClient, shown: Shown, say: Any) -> httpx.Headers:
    """One streamed answer, printed as it arrives."""
    body = {
        "model": shown.model,
        "max_tokens": MAX_TOKENS,
        "stream": True,
        "messages": [{"role": "user", "content": PROMPT}],
    }
    pieces = []
    headers = {"anthropic-version": "2023-06-01", "user-agent": "tollhouse-demo/1"}
    async with user.stream("POST", "/v1/messages", json=body, headers=headers) as answer:
        if answer.status_code != 200:
            await answer.aread()
            raise SettingsError(f"{answer.status_code} {answer.text}")
        say("  ", end="")
        async for line in answer.aiter_lines():
            if line.startswith("data: ") and '"content_block_delta"' in line:
                text = msgspec.json.decode(line[6:])["delta"].get("text", "")
                pieces.append(text)
                say(
                    output.clean(text.replace("\n", "\n  ")) if "\n" not in text else text.replace("\n", "\n  "), end=""
                )
        shown.request_id = answer.headers["x-tollhouse-request-id"]
    shown.answer = "".join(pieces)
    return answer.headers


def next_steps(url: str, key: str, model: str) -> list[str]:
    """What to try, ready to paste."""
    body = f'{{"model":"{model}","max_tokens":100,"stream":true,"messages":[{{"role":"user","content":"Hi"}}]}}'
    return [
        "  Try it:",
        f"    curl -N {url}/v1/messages -H 'x-api-key: {key}' -H 'anthropic-version: 2023-06-01' \\",
        f"      -d '{body}'",
        "  Python, anthropic SDK:",
        f"    Anthropic(base_url={url!r}, api_key={key!r}).messages.create(model={model!r}, max_tokens=100,",
        '      messages=[{"role": "user", "content": "Hello"}])',
        "  Python, openai SDK:",
        f"    OpenAI(base_url='{url}/v1', api_key={key!r}).chat.completions.create(model={model!r},",
        '      messages=[{"role": "user", "content": "Hello"}])',
        f"  Any tool:  ANTHROPIC_BASE_URL={url}  ANTHROPIC_AUTH_TOKEN={key}",
    ]


def _say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def _silent(text: str, end: str = "\n") -> None:
    """With --json only the document is printed."""

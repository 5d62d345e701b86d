"""A provider's credential on the way of a call: its refusal is told, and without one nothing is sent."""

import json

import pytest

from tests.planes.plane import MESSAGE, ask, plane, post
from tests.planes.wire import Peer, reply, run, upstream

PATHS = [b"/v1/messages", b"/v1/messages/count_tokens"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("status", "told"), [(200, False), (400, False), (401, True), (403, True), (404, False)])
def test_a_refused_credential_is_told(path: bytes, status: int, told: bool) -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        peer.send(reply(MESSAGE, status))
        await peer.until_gone()

    async def story() -> None:
        async with upstream(answer) as provider, plane(provider.port) as running, await running.client() as client:
            client.send(post(ask(), path=path))
            assert (await client.answer()).whole
            assert running.credentials_refused == ([("mock", "", status)] if told else [])

    run(story())


@pytest.mark.parametrize("path", PATHS)
def test_without_a_credential_nothing_is_sent(path: bytes) -> None:
    async def story() -> None:
        why = "The credential of mock cannot be read just now."
        async with upstream() as provider, plane(provider.port, provider={"unavailable": why}) as running:
            async with await running.client() as client:
                client.send(post(ask(), path=path))
                answer = await client.answer()
            assert answer.status == 503
            error = json.loads(answer.body)["error"]
            assert (error["code"], error["message"]) == ("credential_unavailable", why)
            assert answer.headers[b"retry-after"] == b"15"
            assert provider.requests == []
            assert running.held == 0
            assert not running.credentials_refused

    run(story())

"""The corpus against the gateway on a real socket, and against the same gateway behind a real nginx."""

from pathlib import Path

import pytest

from tests.planes.plane import get, plane
from tests.planes.virtual_time import run_in_virtual_time
from tests.planes.wire import run, until
from tests.wire.corpus import KEY_LINE, TE, request
from tests.wire.corpus_heads import corpus
from tests.wire.law import HURRIED, breaches, play
from tests.wire.proxy import nginx
from tests.wire.recorder import recording

CASES = corpus()


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 150
    assert len(set(names)) == len(names)


def test_directly() -> None:
    async def story() -> None:
        async with recording() as provider, plane(provider.port, edge=HURRIED) as running:
            outcomes = await play(CASES, running.port)
            assert not (found := breaches(CASES, outcomes, provider, direct=True)), "\n".join(found)
            assert running.held == 0

    run_in_virtual_time(story())


@pytest.mark.parametrize("way", ["collecting", "passing"])
def test_behind_nginx(way: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with recording() as provider, plane(provider.port) as running:
            with nginx(tmp_path, running.port) as proxy:
                outcomes = await play(CASES, proxy.ports[way])
                assert not (found := breaches(CASES, outcomes, provider, direct=False)), "\n".join(found)
                assert len(provider.requests) > 50  # it was no proxy that refuses everything

    run(story())


@pytest.mark.parametrize("more", [b"zz\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n\r\n" + get(b"/smuggled")])
def test_what_follows_a_refusal_is_thrown_away(more: bytes) -> None:
    """A refused request's body may turn out malformed: it is answered already, and nothing is written any more."""
    stranger = request(TE, body=b"").replace(KEY_LINE, b"X-Api-Key: no")

    async def story() -> None:
        async with plane() as running, await running.client() as client:
            client.send(stranger)
            assert (await client.answer()).status == 401
            client.send(more)
            assert await client.eof()
            client.close()
            await until(lambda: not running.gate.edges)

    run(story())

"""What providers say of stored credentials: written soon, told once an hour, also while the database is away."""

import asyncio
from collections.abc import Mapping

from tests.planes.wire import run, until
from tollhouse.terms.errors import StorageError
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.workers import CredentialWatch
from tollhouse.workers.credential_watch import MOST_OWN_AN_HOUR

HOUR_NS = 3_600 * 10**9
T0_NS = 500_000 * HOUR_NS


class Place:
    """Where it is written; `away` refuses."""

    def __init__(self) -> None:
        self.rows: dict[str, int | None] = {}
        self.writes = 0
        self.away = False
        self.notices: list[Notice] = []
        self.now_ns = T0_NS

    async def note(self, refused: Mapping[str, int | None]) -> None:
        await asyncio.sleep(0)
        self.writes += 1
        if self.away:
            raise StorageError("the database is away")
        self.rows.update(refused)

    def watch(self, **refused: int) -> CredentialWatch:
        return CredentialWatch(self.note, self.notices.append, refused, lambda: self.now_ns)


def test_it_is_told_once_an_hour_for_each_and_without_the_user() -> None:
    place = Place()
    watch = place.watch()
    for _ in range(3):
        watch.refused("anthropic", "own_1", 401)
    watch.refused("anthropic", "cred_1", 403)
    assert [one.subject for one in place.notices] == ["credential own_1", "credential cred_1"]
    first = place.notices[0]
    assert first.kind is NoticeKind.CREDENTIAL_REFUSED
    assert first.data == {"provider": "anthropic", "credential_id": "own_1", "status": 401, "paid_by": "own"}
    place.now_ns += HOUR_NS
    watch.refused("anthropic", "own_1", 401)
    assert len({one.once for one in place.notices}) == len(place.notices) == 3


def test_whoever_stores_bad_keys_buries_nothing() -> None:
    place = Place()
    watch = place.watch()
    for number in range(2 * MOST_OWN_AN_HOUR):
        watch.refused("anthropic", f"own_{number}", 401)
    watch.refused("anthropic", "cred_1", 401)
    assert [one.subject for one in place.notices][MOST_OWN_AN_HOUR:] == ["credential cred_1"]
    place.now_ns += HOUR_NS
    watch.refused("anthropic", "own_1", 401)
    assert place.notices[-1].subject == "credential own_1"


def test_what_works_again_is_written_and_nothing_else() -> None:
    async def story() -> None:
        place = Place()
        watch = place.watch(own_old=1)
        watch.start()
        watch.worked("own_never_refused")
        watch.worked("own_old")
        watch.worked("own_old")
        await until(lambda: place.writes)
        assert (place.rows, place.writes) == ({"own_old": None}, 1)
        await watch.stop()

    run(story())


def test_nothing_is_lost_while_the_database_is_away() -> None:
    async def story() -> None:
        place = Place()
        place.away = True
        watch = place.watch()
        watch.start()
        watch.refused("anthropic", "own_1", 401)
        await until(lambda: place.writes)
        watch.refused("anthropic", "own_2", 401)
        watch.worked("own_1")
        place.away = False
        await watch.stop()
        assert place.rows == {"own_1": None, "own_2": T0_NS}

    run(story())

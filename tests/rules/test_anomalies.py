"""The rules of what is unusual: no false alarm on steady use, an alarm once on what is not, and bounded memory."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.anomalies import CLIENTS, HOURS, AnomalyRules, Batch, Finding, Watch
from tollhouse.rules.networks import client_address

RULES = AnomalyRules(spend_floor_nusd=10**9, new_client_calls=10, refusals=20, refusals_s=600, addresses=5)
HOUR_S = 3_600
CENT = 10**7


def watch(**changes: object) -> Watch:
    return Watch(AnomalyRules(**{name: getattr(RULES, name) for name in RULES.__struct_fields__} | changes), str)  # type: ignore[arg-type]


def batch(at_s: int, nusd: int = 0, *, calls: int = 1, refused: int = 0, client: str = "") -> Batch:
    return Batch("ann", at_s, nusd, calls, refused, {client: calls})


def spend(one: Watch, *hours: int, first: int = 1_000) -> list[Finding]:
    """An amount an hour; what is found."""
    found: list[Finding] = []
    for number, nusd in enumerate(hours, first):
        found += one.take("key_1", batch(number * HOUR_S, nusd))
    return found


@given(st.integers(1, 10**12), st.lists(st.floats(1.0, 9.99), max_size=80), st.data())
def test_steady_use_is_never_unusual(base: int, hours: list[float], data: st.DataObject) -> None:
    """Whatever it does between its least hour and ten times that, idle hours between."""
    one = watch()
    hour = 1_000
    for times in hours:
        hour += data.draw(st.integers(1, 30))
        part = int(base * times) // 3
        for _ in range(3):
            assert list(one.take("key_1", batch(hour * HOUR_S, part, client="claude-cli"))) == []


@given(st.integers(CENT, 10**12), st.integers(6, 100))
def test_an_hour_far_beyond_the_usual_is_told_once(usual: int, hours: int) -> None:
    one = watch()
    assert spend(one, *[usual] * hours) == []
    dear = max(10 * usual, RULES.spend_floor_nusd)
    at_s = (1_000 + hours) * HOUR_S
    found = [finding for _ in range(5) for finding in one.take("key_1", batch(at_s, dear))]
    assert [(finding.rule, finding.key_id, finding.user_id) for finding in found] == [("spend", "key_1", "ann")]
    assert found[0].once == f"anomaly:spend:key:key_1:{1_000 + hours}"


def test_it_is_explained() -> None:
    one = watch()
    (found,) = spend(one, *[120_000_000] * 8, 4_100_000_000)
    assert found.text == "The key key_1 of user ann spent $4.10 this hour; the usual hour is $0.12 (34 times)."
    assert found.data == {
        "rule": "spend",
        "key_id": "key_1",
        "user_id": "ann",
        "spent_nusd": "4100000000",
        "usual_nusd": "120000000",
        "times": 34,
    }


@pytest.mark.parametrize(
    ("why", "hours", "changes"),
    [
        ("too little is known", [CENT] * 5 + [10**10], {}),
        ("it is below the floor", [CENT] * 8 + [10**9 - 1], {}),
        ("the rule is off", [CENT] * 8 + [10**10], {"spend_factor": 0.0}),
    ],
)
def test_what_is_not_told(why: str, hours: list[int], changes: dict[str, object]) -> None:
    assert spend(watch(**changes), *hours) == [], why


def test_many_keys_of_a_user_are_one_user() -> None:
    one, found = watch(), []
    for hour in range(1_000, 1_009):
        nusd = CENT if hour < 1_008 else 5 * 10**8
        for number in range(4):
            found += one.take(f"key_{hour}_{number}", batch(hour * HOUR_S, nusd))
    assert [(finding.key_id, finding.user_id) for finding in found] == [("", "ann")]
    assert found[0].text.startswith("The user ann spent $1.00 this hour")


def test_a_new_tool_is_told_once_and_not_before_the_key_is_known() -> None:
    one = watch()
    tools = ["claude-cli"] * 5 + ["curl"] + ["claude-cli"] * 5 + ["evil\x1b[2J", "evil\x1b[2J", "curl", ""]
    found = [finding for tool in tools for finding in one.take("key_1", batch(HOUR_S, client=tool))]
    assert [finding.rule for finding in found] == ["new_client"]
    assert found[0].text == (
        "The key key_1 of user ann was used with evil?[2J for the first time; so far with claude-cli, curl."
    )


def test_a_key_of_many_tools_has_no_unusual_one() -> None:
    one = watch()
    for number in range(CLIENTS):
        list(one.take("key_1", batch(HOUR_S, client=f"tool{number}")))
    assert list(one.take("key_1", batch(HOUR_S, client="another"))) == []


def refuse(one: Watch, at_s: int, refused: int, others: int) -> list[Finding]:
    return list(one.take("key_1", batch(at_s, calls=refused + others, refused=refused)))


def test_many_refusals_within_a_window() -> None:
    one = watch()
    assert refuse(one, 6_000, 19, 0) == []
    (found,) = refuse(one, 6_200, 1, 3)
    assert found.text == "The key key_1 of user ann was refused 20 times within 10 minutes, and 3 calls went well."
    assert refuse(one, 6_300, 100, 0) == []
    assert refuse(watch(), 6_000, 20, 40) == []  # twice as many went well
    spread = watch()
    assert [found for at_s in range(6_000, 60_000, 600) for found in refuse(spread, at_s, 9, 0)] == []


def test_budgets_and_limits_at_work_are_no_refusals() -> None:
    counted = Batch("ann", 0)
    for status in (200, 400, 402, 404, 429, 500, 0):
        counted.add(status, "curl", 1, 1)
    assert (counted.calls, counted.refused, counted.nusd, counted.clients) == (7, 2, 7, {"curl": 7})


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=200))
def test_networks_are_counted_within_an_hour(places: list[tuple[int, int]]) -> None:
    one = watch()
    seen: dict[int, set[int]] = {}
    told: set[int] = set()
    for hour, network in sorted(places, key=lambda place: place[0]):
        found = one.network("key_1", "ann", f"{network}", hour * HOUR_S)
        seen.setdefault(hour, set()).add(network)
        due = len(seen[hour]) >= RULES.addresses and hour not in told
        assert (found is not None) is due
        told |= {hour} if due else set()


def test_memory_is_bounded() -> None:
    one = watch(max_subjects=10)
    for number in range(1_000):
        list(one.take(f"key_{number}", Batch(f"user{number}", HOUR_S, 1, 1)))
    assert len(one) == 20
    for hour in range(1_000):
        list(one.take("key_1", batch(hour * HOUR_S, CENT)))
    assert len(one._keys["key_1"].spend.past) == HOURS


def test_what_the_ledger_says_counts_as_if_it_had_been_seen() -> None:
    one = watch()
    for hour in range(1_000, 1_008):
        one.remember("key_1", "ann", hour, CENT, ("claude-cli",), 5)
    found = list(one.take("key_1", batch(1_008 * HOUR_S, 10**9, client="curl")))
    assert sorted(finding.rule for finding in found) == ["new_client", "spend"]


TRUSTED = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("127.0.0.1")]


@pytest.mark.parametrize(
    ("peer", "said", "wanted"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # nobody who may say so
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "192.0.2.1, 198.51.100.1, 10.1.2.3", "198.51.100.1"),  # what a client wrote comes first
        ("127.0.0.1", "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("127.0.0.1", "rubbish", "rubbish"),
        ("127.0.0.1", " , ", "127.0.0.1"),
        ("127.0.0.1", ",".join(["192.0.2.1"] * 1_000), "192.0.2.1"),
    ],
)
def test_whose_connection_it_is(peer: str, said: str, wanted: str) -> None:
    assert client_address(peer, said, TRUSTED) == wanted

"""The form of a key: what is minted is well formed, what is mistyped is not."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules import keys

RANDOM = st.binary(min_size=32, max_size=32)
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@given(RANDOM)
def test_a_minted_key_is_well_formed_as_text_and_as_bytes(random: bytes) -> None:
    key = keys.mint(random)
    assert len(key) == keys.KEY_CHARS == 55
    assert key.startswith("sk-th-")
    assert "sk-ant-" not in key
    assert keys.is_well_formed(key)
    assert keys.is_well_formed(key.encode())


@given(RANDOM, RANDOM)
def test_different_randomness_makes_different_keys(first: bytes, second: bytes) -> None:
    assert (keys.mint(first) == keys.mint(second)) == (first == second)


def test_the_extremes_keep_the_length() -> None:
    for random in (bytes(32), b"\xff" * 32):
        assert len(keys.mint(random)) == keys.KEY_CHARS
        assert keys.is_well_formed(keys.mint(random))


@given(RANDOM, st.integers(0, 54), st.sampled_from(ALPHABET + "-_ \n\0é€"))
def test_one_wrong_character_is_caught(random: bytes, place: int, typo: str) -> None:
    key = keys.mint(random)
    mistyped = key[:place] + typo + key[place + 1 :]
    assert keys.is_well_formed(mistyped) == (mistyped == key)
    assert keys.is_well_formed(mistyped.encode()) == (mistyped == key)


@given(RANDOM, st.integers(0, 53))
def test_swapped_neighbours_are_caught(random: bytes, place: int) -> None:
    key = keys.mint(random)
    swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
    assert keys.is_well_formed(swapped) == (swapped == key)


@given(RANDOM, st.text(max_size=3), st.text(max_size=3))
def test_nothing_may_stand_around_a_key(random: bytes, before: str, after: str) -> None:
    assert keys.is_well_formed(before + keys.mint(random) + after) == (before == after == "")


@given(st.text(max_size=60) | st.text(min_size=55, max_size=55) | st.binary(max_size=60))
def test_anything_else_is_refused_without_an_error(text: str | bytes) -> None:
    assert not keys.is_well_formed(text)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_is_made_of_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        keys.mint(bytes(size))


def test_the_digest_is_a_keyed_sha256() -> None:
    key = keys.mint(bytes(range(32))).encode()
    assert keys.digest(b"secret", key) == hmac.new(b"secret", key, hashlib.sha256).digest()
    assert keys.digest(b"other", key) != keys.digest(b"secret", key)


def test_the_hint_is_the_end_of_the_random_part_and_not_of_the_checksum() -> None:
    key = keys.mint(bytes(range(32)))
    assert len(keys.hint(key)) == 4
    assert key[:-6].endswith(keys.hint(key))

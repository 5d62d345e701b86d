"""The top level of a JSON request body: which fields it has, and that none we act on is there twice.

Providers and we must read a body alike, or a client could show us one model and the provider another. JSON leaves open
which of two equal names counts, and `mod\\u0065l` is `model`; so a repeated field we read is refused. msgspec would let
the last one win in silence. The remedy costs nothing extra: the keys of the decoded mapping, already unescaped, are
of a type that raises when two of it are equal, which a mapping only asks when one comes again.

msgspec refuses lone surrogates (`"\\ud800"`), which `json` and the providers accept and real clients send. Whatever
msgspec cannot read is therefore read once more by `json`, slower; only what neither reads is refused.

A value of two or three bytes becomes an object of a hundred, so the number of values is bounded as well as the bytes:
else one body of 32 MiB took seconds, in which nobody else is served, and more than a gigabyte.
"""

import json
import re
from collections.abc import Mapping
from operator import call
from typing import Any, NoReturn

import msgspec

from tollhouse.dialects.surrogates import without_lone
from tollhouse.terms.errors import Refusal

MAX_VALUES = 500_000
"""In one body, names not counted. Far above what a conversation has: its length is in its strings."""
_MANY_BYTES = 2 * MAX_VALUES
"""A shorter body cannot have more: each value has a byte of its own and one that divides it from the next."""
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""One that never ends is one too: else each quote after it would be tried anew."""


class RepeatedNameError(ValueError):
    """A name came twice in one object."""


_equal = str.__eq__


class Name(str):
    """A field's name. A mapping of names can be asked with plain strings, and cannot be built with a repeated name."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not Name or other is self:
            return _equal(self, other) is True
        raise RepeatedNameError(str(self))

    def __ne__(self, other: object) -> bool:
        return not self == other


class Asked(Name):
    """The name of a field that is asked for in every body: a mapping of names compares it without a Python frame.

    Python lets the more special of two types compare, and this one compares as plain strings do.
    """

    __slots__ = ()
    __hash__ = str.__hash__
    __eq__ = str.__eq__
    __ne__ = str.__ne__


class Odd(msgspec.Struct, frozen=True):
    """Stands for a value that does not have the shape the protocol documents; the provider will judge it."""


ODD = Odd()


class _Object(dict[str, Any]):
    """An object as `json` read it, remembering which names came more than once."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = _repeated([name for name, _ in pairs]) if len(self) != len(pairs) else set[str]()


class BodyReader:
    """Reads bodies of one dialect.

    `value_type` is the msgspec type of a top-level value, `watched` the fields we act on.
    """

    def __init__(self, value_type: Any, watched: frozenset[str]) -> None:
        self._value_type = value_type
        self._watched = watched
        # `call(Name, key)` makes the key without a Python frame
        self._decoder = msgspec.json.Decoder(dict[Name, value_type], dec_hook=call)

    def read(self, body: bytes) -> Mapping[str, Any]:
        """The top-level fields, each of `value_type` or ODD.

        Raises Refusal (400) `invalid_json`, `invalid_request` (not an object, too many values) or `duplicate_field`.
        """
        if len(body) > _MANY_BYTES:
            check_values(body)
        try:
            return self._decoder.decode(body)  # type: ignore[return-value]  # a Name is a str
        except (ValueError, RecursionError):
            return self._read_slowly(body)

    def _read_slowly(self, body: bytes) -> dict[str, Any]:
        loaded = load(body)
        if not isinstance(loaded, _Object):
            raise Refusal(400, "invalid_request", f"The request body must be a JSON object, not {_kind(loaded)}.")
        self._require_once(loaded.repeated)
        return {name: self._shaped(value) for name, value in loaded.items()}

    def _shaped(self, value: Any) -> Any:
        try:
            return msgspec.convert(value, self._value_type)
        except (ValueError, RecursionError):
            pass
        try:
            return msgspec.convert(json.loads(without_lone(json.dumps(value).encode())), self._value_type)
        except (ValueError, RecursionError):
            return ODD

    def _require_once(self, repeated: set[str]) -> None:
        for name in sorted(repeated & self._watched):
            raise Refusal(
                400,
                "duplicate_field",
                f"The field {name!r} stands more than once at the top level of the request body. "
                "Send it once: which of several counts is not defined.",
                details={"field": name},
            )


def check_values(body: bytes) -> None:
    """Raises Refusal (400) `invalid_request` when there are more than MAX_VALUES; costs milliseconds per MiB at most.

    Every value but the first follows a comma or a bracket. Those within strings are told apart only when there are too
    many of all, and strings only when there are not too many of those (an escaped quote is no end of one).
    """
    if _openings(body) <= MAX_VALUES:
        return
    strings = (body.count(b'"') - body.count(b'\\"')) // 2
    if strings > 2 * MAX_VALUES or _openings(_STRING.sub(b"", body)) > MAX_VALUES:
        raise Refusal(
            400, "invalid_request", f"The request body has more than {MAX_VALUES} values; send fewer at once."
        )


def _openings(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def load(body: bytes) -> Any:
    """The body as `json` reads it: lone surrogates pass, NaN and Infinity do not.

    Raises Refusal (400) `invalid_json`.
    """
    try:
        return json.loads(body.decode(), object_pairs_hook=_Object, parse_constant=_refuse_constant)
    except RecursionError:
        raise _invalid("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise _invalid(f"it is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        byte = len(error.doc[: error.pos].encode(errors="replace"))
        raise _invalid(f"{error.msg} (line {error.lineno}, column {error.colno}, byte {byte})") from None
    except ValueError:  # an integer of more digits than Python converts
        raise _invalid("a number in it is too long") from None


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is not a JSON value")


def _invalid(why: str) -> Refusal:
    return Refusal(400, "invalid_json", f"The request body is not valid JSON: {why}.")


def _repeated(names: list[str]) -> set[str]:
    seen: set[str] = set()
    repeated: set[str] = set()
    for name in names:
        (repeated if name in seen else seen).add(name)
    return repeated


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")

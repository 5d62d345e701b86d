"""JSON as nobody writes it and everybody may: odd white space, odd escapes, odd numbers, names that come twice.

All of it is valid (RFC 8259) and none of it means anything to a gateway. Values and names are bytes as they are sent.
"""

import json
import random
from collections.abc import Sequence

Member = tuple[bytes, bytes]
"""A name's string literal and a value."""

_SPACES = (b"", b"", b"", b"", b" ", b"\n", b"\t", b"\r\n", b"  \r \n\t ")
_SCRAPS = (
    "a", "model", "max_tokens", " ", "é", "世界", "🌍", "\u2028", "\ufeff", "{", "}", "[", "]", ":", ",", "data: ",
    "\\n", "\\n\\n", "\\r", "\\t", '\\"', "\\\\", "\\/", "\\b", "\\f", "\\u0000", "\\u00e9", "\\uD83C\\udf0d",
    "\\ud800", "\\uDFFF", "[DONE]", '\\"model\\":', "</script>", "\x7f", "%00",
)  # fmt: skip
_NUMBERS = (
    b"0", b"-0", b"-0.0", b"1", b"-7", b"0.1000", b"1e5", b"1E+10", b"-1.5e-300", b"1e400", b"3.141592653589793238462",
    b"9007199254740993", b"18446744073709551616", b"-9223372036854775809",
)  # fmt: skip
_LOOKALIKES = (b'"model"', b'"max_tokens"', b'"stream"', b'"stream_options"', b'"max_output_tokens"', b'"usage"')


class Noise:
    """A source of JSON, the same for the same seed."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def space(self) -> bytes:
        return self.chance.choice(_SPACES)

    def literal(self, text: str) -> bytes:
        """This text as a string literal, some of its characters escaped without need."""
        if self.chance.random() < 0.7:
            return json.dumps(text).encode()
        written = (f"\\u{ord(char):04X}" if self.chance.random() < 0.3 else json.dumps(char)[1:-1] for char in text)
        return f'"{"".join(written)}"'.encode()

    def string(self) -> bytes:
        chance = self.chance
        long = chance.random() < 0.02
        text = "".join(chance.choices(_SCRAPS, k=chance.randint(0, 3_000 if long else 6)))
        return b'"' + text.encode() + b'"'

    def number(self) -> bytes:
        chance = self.chance
        if chance.random() < 0.9:
            return chance.choice(_NUMBERS)
        return str(chance.randrange(1, 10)).encode() * chance.randint(1, 4_000)

    def value(self, depth: int = 0) -> bytes:
        chance = self.chance
        kind = chance.randrange(8 if depth < 3 else 6)
        if kind < 2:
            return self.string()
        if kind < 4:
            return self.number()
        if kind < 6:
            return chance.choice((b"true", b"false", b"null"))
        if kind == 6:
            return self.array([self.value(depth + 1) for _ in range(chance.randint(0, 4))])
        if depth == 0 and chance.random() < 0.1:
            levels = chance.randint(1, 60)
            return b'{"a":[' * levels + self.value(3) + b"]}" * levels
        return self.object(self.members(depth + 1))

    def members(self, depth: int = 1) -> list[Member]:
        """Members of an object that is not the body itself: also names that would mean something there, and twice."""
        chance = self.chance
        found = [
            (chance.choice(_LOOKALIKES) if chance.random() < 0.3 else self.name(), self.value(depth))
            for _ in range(chance.randint(0, 4))
        ]
        return found + [(name, self.value(depth)) for name, _ in found if chance.random() < 0.1]

    def name(self) -> bytes:
        """One that no protocol knows."""
        return b'"x_' + self.string()[1:]

    def array(self, values: Sequence[bytes]) -> bytes:
        inner = b",".join(self.space() + value + self.space() for value in values)
        return b"[" + (inner or self.space()) + b"]"

    def object(self, members: Sequence[Member]) -> bytes:
        inner = b",".join(
            self.space() + name + self.space() + b":" + self.space() + value + self.space() for name, value in members
        )
        return b"{" + (inner or self.space()) + b"}"

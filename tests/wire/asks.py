"""Generated requests, and what the provider must get of each: the same bytes, but for the edits that are on the list.

    model                            an alias (`mock/claude-x`) becomes the provider's own name
    the output cap                   clamped where a budget cannot bear it, put in where there is none
    stream_options.include_usage     put in where a chat stream would not tell its usage

Nothing else: `max_uses` is required where a budget applies, never written. What the provider must get is worked out by
the scanner, not by the code that edits.
"""

import json
import random
from dataclasses import dataclass, field
from typing import Any

from tests.wire.lanes import Lane
from tests.wire.noise import Member, Noise
from tests.wire.scanner import first_place, members, replaced

DEAR = 10**12
"""A cap beyond every budget."""
MAX_OUTPUT_TOKENS = 64_000
"""What the models of these tests can write (plane.FACTS): a dear cap is clamped to it."""
DEFAULT_MAX_TOKENS = 32_000
_DEAR = (b"1000000000000", b"1e12", b"1000000000000.0", b"10E+11")
_LONG_TEXT_BYTES = 60_000


@dataclass
class Ask:
    """`body` is what the client sends. `cap` is what the gateway must say of the output cap: the number written into
    the body and how that came, or nothing.
    """

    lane: Lane
    body: bytes
    stream: bool
    usage_asked: bool
    cap: str = ""
    lines: list[bytes] = field(default_factory=list)
    query: bytes = b""
    chunked: bool = False

    def expected(self) -> bytes:
        """What the provider must get."""
        tokens = int(self.cap.partition(";")[0]) if self.cap else None
        return edited(self.lane, self.body, tokens, include_usage=self._needs_usage)

    @property
    def _needs_usage(self) -> bool:
        return self.lane.includes_usage and self.stream and not self.usage_asked


def edited(lane: Lane, body: bytes, cap: int | None, *, include_usage: bool) -> bytes:
    """The reference: every edit of the list made on spans that the scanner found."""
    edits: list[tuple[int, int, bytes]] = []
    added: list[bytes] = []
    found = {member.name: member for member in members(body)}
    values = {name: json.loads(body[member.start : member.end]) for name, member in found.items()}
    model = found["model"]
    if "/" in values["model"]:
        edits.append(
            (model.start, model.end, json.dumps(values["model"].partition("/")[2], ensure_ascii=False).encode())
        )
    if cap is not None:
        written = b"%d" % cap
        unfit = [name for name in lane.caps if name in found and not _within(values[name], cap)]
        edits += [(found[name].start, found[name].end, written) for name in unfit]
        if _no_cap(lane, values):
            added.append(b'"%b":%b' % (lane.caps[0].encode(), written))
    if include_usage:
        options = found.get("stream_options")
        if options is None:
            added.append(b'"stream_options":{"include_usage":true}')
        else:
            value = _with_usage(body[options.start : options.end], values["stream_options"])
            edits.append((options.start, options.end, value))
    if added:
        place = first_place(body)
        edits.append((place, place, b",".join(added) + (b"," if found else b"")))
    return replaced(body, edits)


def _within(value: Any, cap: int) -> bool:
    return value is not None and 0 <= value <= cap


def _no_cap(lane: Lane, values: dict[str, Any]) -> bool:
    """There is no field that could carry the cap."""
    if lane.caps[0] in values:
        return False
    return lane.name == "responses" or all(values.get(name) is None for name in lane.caps)


def _with_usage(options: bytes, value: Any) -> bytes:
    if not isinstance(value, dict):
        return b'{"include_usage":true}'
    for member in members(options):
        if member.name == "include_usage":
            return replaced(options, [(member.start, member.end, b"true")])
    place = first_place(options)
    return replaced(options, [(place, place, b'"include_usage":true' + (b"," if value else b""))])


def same_but(before: bytes, after: bytes, lane: Lane) -> bool:
    """Read as JSON too, nothing differs but the fields on the list: a second opinion, of another kind of blindness."""
    listed = {"model", "stream_options", *lane.caps}

    def rest(body: bytes) -> list[Any]:
        pairs: list[Any] = json.loads(body, object_pairs_hook=list)
        return [repr(pair) for pair in pairs if pair[0] not in listed]

    return rest(before) == rest(after)


def generate(lane: Lane, chance: random.Random) -> Ask:
    """A request that the gateway may neither refuse nor change beyond its list."""
    noise = Noise(chance)
    stream = lane.streams and chance.random() < 0.5
    fields: list[Member] = [(b"model", noise.literal(_model(lane, chance)))]
    if stream or (lane.streams and chance.random() < 0.3):
        fields.append((b"stream", b"true" if stream else chance.choice((b"false", b"null"))))
    cap = _cap(lane, chance, fields)
    usage_asked = lane.includes_usage and _stream_options(noise, fields)
    fields += _content(lane, noise)
    named = [(noise.literal(name.decode()), value) for name, value in fields]
    named += [(noise.name(), noise.value()) for _ in range(chance.randint(0, 8))]
    named += [(name, noise.value()) for name, _ in named[len(fields) :] if chance.random() < 0.1]
    chance.shuffle(named)
    if chance.random() < 0.01:
        named.append((b'"x_long"', b'"' + b"long \\n" * (_LONG_TEXT_BYTES // 7) + b'"'))
    body = noise.space() + noise.object(named) + noise.space()
    ask = Ask(lane, body, stream, usage_asked, cap)
    ask.lines = _lines(chance)
    ask.query = chance.choice((b"", b"", b"?beta=true", b"?x=%20y&x=;a/b?c"))
    ask.chunked = chance.random() < 0.3
    return ask


def _model(lane: Lane, chance: random.Random) -> str:
    name = lane.model.decode() + chance.choice(("", "-20260101", ".5_é"))
    return f"{lane.provider.decode()}/{name}" if chance.random() < 0.4 else name


def _cap(lane: Lane, chance: random.Random, fields: list[Member]) -> str:
    """The fields of the cap, and what must be said of it."""
    if not lane.caps:
        return ""
    first, *others = [name.encode() for name in lane.caps]
    kind = chance.randrange(6)
    small, dear = b"%d" % chance.randint(1, 5_000), chance.choice(_DEAR)
    if kind < 2:
        fields.append((chance.choice([first, *others]) if lane.includes_usage else first, small))
        return ""
    if kind == 2:
        fields.append((first, dear))
    elif kind == 3 and others:
        fields += [(name, chance.choice((small, dear, b"1.0"))) for name in (first, *others)]
        if not any(value in _DEAR for _, value in fields[-len(lane.caps) :]):
            return ""
    elif kind == 4 and others:
        fields.append((b"n_predict", chance.choice((b"-1", b"-2"))))
        return f"{DEFAULT_MAX_TOKENS}; injected"
    else:
        fields += [(first, b"null")] if chance.random() < 0.3 else []
        return f"{DEFAULT_MAX_TOKENS}; injected"
    return f"{MAX_OUTPUT_TOKENS}; clamped"


def _stream_options(noise: Noise, fields: list[Member]) -> bool:
    """Perhaps `stream_options`; whether they ask for usage."""
    chance = noise.chance
    kind = chance.randrange(5)
    if kind < 2:
        return False
    if kind == 2:
        fields.append((b"stream_options", b"null"))
        return False
    inner = [(noise.name(), noise.value()) for _ in range(chance.randint(0, 2))]
    asked = chance.choice((None, b"true", b"true", b"false", b"null")) if kind == 3 else None
    if asked is not None:
        inner.insert(chance.randint(0, len(inner)), (noise.literal("include_usage"), asked))
    fields.append((b"stream_options", noise.object(inner)))
    return asked == b"true"


def _content(lane: Lane, noise: Noise) -> list[Member]:
    """What the lane is asked about: known shapes with unknown members, now and then a shape of its own."""
    chance = noise.chance
    if lane.name == "embeddings":
        texts = noise.array([noise.string() for _ in range(chance.randint(0, 4))])
        return [(b"input", chance.choice((noise.string(), texts)))]
    role = noise.object([(b'"role"', b'"user"'), (b'"content"', noise.string()), *noise.members()])
    parts = noise.array([noise.object([(b'"type"', b'"text"'), (b'"text"', noise.string()), *noise.members()])])
    blocks = noise.object([(b'"role"', b'"assistant"'), (b'"content"', parts)])
    found: list[Member] = []
    if lane.name == "messages" and chance.random() < 0.2:
        uses = noise.object([(b'"max_uses"', b"%d" % chance.randint(0, 3)), (b'"type"', b'"web_search_20250305"')])
        found.append((b"tools", noise.array([uses])))
    messages = chance.choice((noise.array([role, blocks]), noise.array([]), noise.value()))
    return [*found, (b"input" if lane.name == "responses" else b"messages", messages)]


def _lines(chance: random.Random) -> list[bytes]:
    """Header lines that nobody here knows, and that the provider must get."""
    choices = (
        b"content-type: application/json",
        b"content-type: application/x-www-form-urlencoded",
        b"anthropic-version: 2026-10-21",
        b"anthropic-beta: tools-2099-01-01,unheard-of-2099",
        b"anthropic-new-thing: a",
        b"X-Stainless-Retry-Count: 0",
        b"x-unknown: " + bytes(chance.choices(range(0x21, 0x7F), k=chance.randint(1, 60))),
        b"x-latin: caf\xe9",
        b"x-empty:",
        b"x-twice: 1",
        b"x-twice: 2",
        b"user-agent: somebody/1.0 (a b; c)",
    )
    return [line for line in choices if chance.random() < 0.4]

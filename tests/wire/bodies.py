"""Bodies that are meant to cost more to read than to send."""

import json
import zlib
from dataclasses import dataclass

MAX_BODY_BYTES = 32 * 1024 * 1024
_OPEN = '{"model":"claude-sonnet-4-6","max_tokens":10,"messages":[],'


@dataclass(frozen=True)
class Bomb:
    """A body, the lines that announce it, and what the gateway may answer. 200: it is the provider's to judge."""

    name: str
    body: bytes
    statuses: frozenset[int]
    lines: bytes = b""


def _bomb(name: str, inner: str | bytes, *statuses: int) -> Bomb:
    inner = inner.encode("utf-8", "surrogatepass") if isinstance(inner, str) else inner
    return Bomb(name, _OPEN.encode() + inner + b"}", frozenset(statuses))


def _compressed(coding: str, data: bytes) -> Bomb:
    line = f"content-encoding: {coding}\r\n".encode()
    return Bomb(f"compressed by {coding}", data, frozenset((415,)), line)


def compressed() -> list[Bomb]:
    """Each a thousand times as large as it is sent."""
    zeros = zlib.compressobj(9, wbits=31)
    gzipped = zeros.compress(b" " * 64 * 1024 * 1024) + zeros.flush()
    return [
        *(_compressed(coding, gzipped) for coding in ("gzip", "GZIP", "x-gzip", "br", "zstd", "gzip, gzip")),
        _compressed("deflate", zlib.compress(b" " * 64 * 1024 * 1024)),
    ]


def bombs() -> list[Bomb]:
    """All within the size cap."""
    deep, long = 100_000, 1_000_000
    rest = MAX_BODY_BYTES - len(_OPEN) - 64
    return [
        _bomb("nested arrays", '"x":' + "[" * deep + "]" * deep, 400),
        _bomb("nested objects", '"x":' + '{"a":' * deep + "1" + "}" * deep, 400),
        _bomb("nested arrays that never end", '"x":' + "[" * deep, 400),
        _bomb("nested in the messages", '"metadata":' + "[" * deep + "]" * deep, 400),
        _bomb("a whole body of brackets", '"x":' + "[" * rest, 400),
        _bomb("the model twice", '"model":"claude-opus-4-6"', 400),
        _bomb("the model twice, escaped", '"mod\\u0065l":"claude-opus-4-6"', 400),
        _bomb("the cap twice", '"max_tokens":1', 400),
        _bomb("one unknown name very often", ",".join(['"x":1'] * long), 400),
        _bomb("one known name very often", ",".join(['"stream":true'] * (long // 10)), 400),
        _bomb("very many names", ",".join(f'"{number}":1' for number in range(long)), 400),
        _bomb("a lone surrogate", '"x":"\\ud800"', 200),
        _bomb("a lone surrogate for a name", '"\\ud800":1', 200),
        _bomb("many lone surrogates", '"x":"' + "\\udfff" * long + '"', 200),
        _bomb("a lone surrogate as UTF-8", '"x":"\ud800"', 400),
        _bomb("a number of a million digits", '"x":' + "9" * long, 200, 400),
        _bomb("a cap of a million digits", '"temperature":1,"max_tokens":' + "9" * long, 400),
        _bomb("a fraction of a million digits", '"x":0.' + "9" * long, 200, 400),
        _bomb("an exponent of a million digits", '"x":1e' + "9" * long, 200, 400),
        _bomb("32 MiB of spaces", " " * rest + '"x":1', 200),
        Bomb("32 MiB of nothing but spaces", b" " * MAX_BODY_BYTES, frozenset((400,))),
        _bomb("32 MiB of one string", '"x":"' + "a" * rest + '"', 200),
        _bomb("32 MiB of escapes", '"x":"' + "\\u0041" * (rest // 6) + '"', 200),
        _bomb("32 MiB of quotes", '"x":"' + '\\"' * (rest // 2) + '"', 200),
        _bomb("32 MiB of numbers", '"x":[' + "1," * (rest // 2 - 8) + "1]", 400),
        _bomb("32 MiB of objects", '"x":[' + "{}," * (rest // 3 - 8) + "1]", 400),
        _bomb("32 MiB of messages", '"metadata":[' + "{}," * (rest // 3 - 8) + "1]", 400),
        _bomb("32 MiB with a lone surrogate", '"y":"\\ud800","x":[' + "1," * (rest // 2 - 16) + "1]", 400),
        _bomb("32 MiB of short strings", '"x":[' + '"a",' * (rest // 4 - 8) + "1]", 400),
        _bomb("strings that never end", '"x":["' + '\\",' * (rest // 3), 400),
        _bomb("nearly as many values as may be", '"x":[' + '{"b":1},' * 240_000 + "1]", 200),
        _bomb("more commas than values may be", '"x":"' + "a,\\n{" * 2_000_000 + '"', 200),
        _bomb("invalid UTF-8", b'"x":"\xff\xfe"', 400),
        _bomb("invalid UTF-8 at the end of 32 MiB", b'"x":"' + b"a" * rest + b'\xc3"', 400),
        _bomb("overlong UTF-8", b'"x":"\xc0\xaf"', 400),
        _bomb("UTF-16", json.dumps({"x": 1}).encode("utf-16"), 400),
        _bomb("NUL bytes", b"\0" * long, 400),
        _bomb("a byte order mark", b"\xef\xbb\xbf" + b'"x":1', 400),
        _bomb("NaN", '"x":NaN', 400),
        Bomb("no object", b"[" + b"1," * long + b"1]", frozenset((400,))),
        Bomb("an empty body", b"", frozenset((400,))),
    ]

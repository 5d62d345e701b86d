"""Requests that are malformed, ambiguous or meant to smuggle another one past the gateway, and what must come of each.

A case is bytes in which `@@@@` stands for the case's mark. Every case but one that just ends is followed, in the same
write, by an honest request, the *probe*: where the case is refused, the probe must not be answered (where it begins is
not certain), and where it is not, the probe must be read as what it is.
"""

import re
from dataclasses import dataclass
from enum import Enum

from tests.planes.plane import KEY
from tests.planes.wire import END_CHUNK, chunk

MARK = b"@@@@"
SMUGGLED = b"smug"
BODY = b'{"model":"claude-x","max_tokens":100,"messages":[],"metadata":{"user_id":"@@@@"}}'
LENGTH = b"Content-Length: %d" % len(BODY)
TE = b"Transfer-Encoding: chunked"
HOST = b"Host: tollhouse"
KEY_LINE = b"X-Api-Key: " + KEY
START = b"POST /v1/messages HTTP/1.1"


class Fate(Enum):
    REFUSED = "refused"
    """Answered 4xx (or 505), closed, nothing goes to the provider, neither does the probe."""
    PASSED = "passed"
    """The provider gets it as it is meant, and the probe."""
    PASSED_AND_CLOSED = "passed and closed"
    """The provider gets it as it is meant; the probe is not read."""
    ANSWERED = "answered"
    """It is a request, but none for a provider; the probe is answered too."""
    ANSWERED_AND_CLOSED = "answered and closed"
    CUT = "cut"
    """It ends too soon: 4xx or nothing, then closed."""


@dataclass(frozen=True)
class Case:
    name: str
    wire: bytes
    fate: Fate
    statuses: frozenset[int]
    body: bytes = BODY
    """What the provider gets where it gets anything."""
    half_closed: bool = False
    """The client ends its side behind the bytes."""

    def marked(self, mark: str) -> bytes:
        return self.wire.replace(MARK, mark.encode())


def request(*lines: bytes, body: bytes = BODY, start: bytes = START, host: bytes | None = HOST) -> bytes:
    """A request with the good key and these header lines, framed by none but them."""
    known = [start, *([host] if host else []), KEY_LINE, *lines]
    return b"\r\n".join(known) + b"\r\n\r\n" + body


def chunked(body: bytes = BODY) -> bytes:
    return chunk(body) + END_CHUNK


def smuggled(before: bytes = b"") -> bytes:
    """A whole request that is somebody's body."""
    return before + request(LENGTH, body=BODY.replace(MARK, SMUGGLED))


def refused(cases: dict[str, bytes], *statuses: int, fate: Fate = Fate.REFUSED) -> list[Case]:
    """400 where no other status is named."""
    return [Case(name, wire, fate, frozenset(statuses or (400,))) for name, wire in cases.items()]


def passed(cases: dict[str, bytes], fate: Fate = Fate.PASSED) -> list[Case]:
    return [Case(name, wire, fate, frozenset((200,))) for name, wire in cases.items()]


def _both_lengths() -> list[Case]:
    """Content-Length against Transfer-Encoding: the classic, in its spellings."""
    zero = b"Content-Length: 0"
    cases = {
        "CL then TE": request(LENGTH, TE, body=chunked()),
        "TE then CL": request(TE, LENGTH, body=chunked()),
        "CL.TE with a request behind the last chunk": request(b"Content-Length: 400", TE, body=smuggled(END_CHUNK)),
        "TE.CL with a request in a chunk": request(b"Content-Length: 4", TE, body=chunked(smuggled())),
        "CL 0 and TE": request(zero, TE, body=chunked()),
        "CL and TE in HTTP/1.0": request(LENGTH, TE, body=chunked(), start=START[:-1] + b"0"),
        "CL blank and TE": request(b"Content-Length:", TE, body=chunked()),
    }
    codings = {
        "identity": b"identity",
        "gzip": b"gzip",
        "gzip, chunked": b"gzip, chunked",
        "chunked, gzip": b"chunked, gzip",
        "chunked, identity": b"chunked, identity",
        "identity, chunked": b"identity, chunked",
        "chunked, chunked": b"chunked, chunked",
        "a comma before": b", chunked",
        "a comma behind": b"chunked,",
        "xchunked": b"xchunked",
        "chunkedx": b"chunkedx",
        "chunked with a parameter": b"chunked;q=1",
        "quoted": b'"chunked"',
        "single quotes": b"'chunked'",
        "blank": b"",
        "a vertical tab before": b"\x0bchunked",
        "a form feed behind": b"chunked\x0c",
        "a no-break space before": b"\xa0chunked",
        "an umlaut in it": "chünked".encode(),
        "a Kelvin sign": "chun\u212aed".encode(),
        "a NUL behind": b"chunked\x00",
        "two words": b"chunked foo",
        "cow": b"cow",
    }
    for name, value in codings.items():
        line = b"Transfer-Encoding: " + value
        cases[f"TE alone: {name}"] = request(line, body=chunked())
        cases[f"CL and TE: {name}"] = request(LENGTH, line)
        cases[f"TE and CL: {name}"] = request(line, b"Content-Length: 4", body=chunked(smuggled()))
    names = {
        "a space before the colon": b"Transfer-Encoding : chunked",
        "a tab before the colon": b"Transfer-Encoding\t: chunked",
        "a space before the name": b" Transfer-Encoding: chunked",
        "a NUL in the name": b"Transfer-\x00Encoding: chunked",
        "CR in the name": b"Transfer\r-Encoding: chunked",
        "no colon": b"Transfer-Encoding chunked",
        "folded": b"Transfer-Encoding:\r\n chunked",
        "folded by a tab": b"Transfer-Encoding:\r\n\tchunked",
        "behind a bare LF": b"X: y\nTransfer-Encoding: chunked",
        "behind a bare CR": b"X: y\rTransfer-Encoding: chunked",
        "behind LF CR": b"X: y\n\rTransfer-Encoding: chunked",
        "in the request line's end": b"\rTransfer-Encoding: chunked",
        "umlaut in the name": "Tränsfer-Encoding: chunked".encode(),
        "high byte in the name": b"Transfer-Encoding\xff: chunked",
    }
    cases |= {f"TE's name: {name}": request(LENGTH, line) for name, line in names.items()}
    cases |= {
        "TE before a tab": request(b"Transfer-Encoding: chunked\t", body=chunked()),
        "TE twice": request(TE, TE, body=chunked()),
        "TE twice, once identity": request(TE, b"Transfer-Encoding: identity", body=chunked()),
        "TE twice, once blank": request(b"Transfer-Encoding:", TE, body=chunked()),
        "TE in HTTP/1.0": request(TE, body=chunked(), start=START[:-1] + b"0"),
        "TE in HTTP/1.0, kept": request(TE, b"Connection: keep-alive", body=chunked(), start=START[:-1] + b"0"),
    }
    fine = {
        "TE in capitals": request(b"TRANSFER-ENCODING: CHUNKED", body=chunked()),
        "TE in mixed case": request(b"tRaNsFeR-eNcOdInG: cHuNkEd", body=chunked()),
        "TE without a space": request(b"Transfer-Encoding:chunked", body=chunked()),
        "TE behind tabs": request(b"Transfer-Encoding: \t chunked", body=chunked()),
        "a look-alike with underscores": request(LENGTH, b"Transfer_Encoding: chunked"),
        "a look-alike with a point": request(LENGTH, b"Content.Length: 4"),
        "TE as a TE": request(LENGTH, b"TE: trailers, chunked"),
    }
    return refused(cases) + passed(fine)


def _lengths() -> list[Case]:
    right = b"%d" % len(BODY)
    values = {
        "with a plus": b"+" + right,
        "with a minus": b"-" + right,
        "minus zero": b"-0",
        "blank": b"",
        "just spaces": b"   ",
        "hexadecimal": b"0x%x" % len(BODY),
        "hexadecimal without 0x": b"5F",
        "octal with o": b"0o121",
        "a fraction": right + b".0",
        "an exponent": b"8e1",
        "a list of equals": right + b", " + right,
        "a list of different": right + b", 4",
        "a list without a space": right + b"," + right,
        "a comma behind": right + b",",
        "a space within": right[:1] + b" " + right[1:],
        "two words": right + b" bytes",
        "an underscore": b"8_1",
        "a NUL behind": right + b"\x00",
        "a vertical tab behind": right + b"\x0b",
        "a no-break space behind": right + b"\xa0",
        "a superscript two": b"\xb2",
        "Arabic digits": "٨١".encode(),
        "wide digits": "８１".encode(),
        "2 to the 64th": b"18446744073709551616",
        "2 to the 64th and the right one": b"%d" % (2**64 + len(BODY)),
        "2 to the 32nd too many, 19 digits": b"9223372036854775808",
        "30 digits": b"9" * 30,
        "1,000 digits": b"9" * 1_000,
        "quoted": b'"' + right + b'"',
        "a semicolon": right + b";",
        "nan": b"nan",
    }
    cases = {f"CL {name}": request(b"Content-Length: " + value) for name, value in values.items()}
    cases |= {
        "CL twice, equal": request(LENGTH, LENGTH),
        "CL twice, different": request(LENGTH, b"Content-Length: 4"),
        "CL twice, 0 first": request(b"Content-Length: 0", LENGTH, body=smuggled()),
        "CL twice, one blank": request(b"Content-Length:", LENGTH),
        "CL twice in two cases": request(LENGTH, LENGTH.upper()),
        "CL with a space before the colon": request(b"Content-Length : 4", body=smuggled()),
        "CL folded": request(b"Content-Length:\r\n " + right),
        "CL folded to a longer one": request(b"Content-Length: 8\r\n 1"),
        "CL behind a bare LF": request(b"X: y\nContent-Length: 4"),
        "CL behind a bare CR": request(b"X: y\rContent-Length: 4"),
    }
    large = refused({"CL of 17 digits": request(b"Content-Length: " + b"9" * 17)}, 413)
    fine = {
        "CL with leading zeros": request(b"Content-Length: 000" + right),
        "CL without a space": request(b"Content-Length:" + right),
        "CL among spaces": request(b"Content-Length:\t  " + right + b" \t "),
    }
    # What nothing announces is the next request's beginning; the empty body before it is answered first.
    cases |= {"CL 0, a body": request(b"Content-Length: 0"), "no CL, a body": request()}
    return refused(cases) + large + passed(fine)


def _chunks() -> list[Case]:
    size, rest = b"%x" % len(BODY), b"\r\n" + END_CHUNK
    whole = size + b"\r\n" + BODY + rest

    pieces = re.findall(rb"@@@@|.", BODY)

    def framed(wire: bytes) -> bytes:
        return request(TE, body=wire)

    sizes = {
        "0x before": b"0x" + size,
        "a minus": b"-" + size,
        "a plus": b"+" + size,
        "a space before": b" " + size,
        "blank": b"",
        "no digit": b"xyz",
        "a comma": size + b",0",
        "a point": size + b".0",
        "17 digits": b"1" + b"0" * 14 + size,
        "over 64 bits": b"f" * 16 + size,
        "2 to the 64th and the right one": b"1" + b"0" * (16 - len(size)) + size,
        "minus one": b"-1",
        "a NUL behind": size + b"\x00",
        "a g": size + b"g",
        "an underscore": size[:1] + b"_" + size[1:],
        "a space within": size[:1] + b" " + size[1:],
        "a no-break space behind": size + b"\xa0",
    }
    cases = {f"chunk size with {name}": framed(value + b"\r\n" + BODY + rest) for name, value in sizes.items()}
    cases |= {
        "chunk size ended by a bare LF": framed(size + b"\n" + BODY + rest),
        "chunk size ended by a bare CR": framed(size + b"\r" + BODY + rest),
        "chunk size ended by CR CR LF": framed(size + b"\r\r\n" + BODY + rest),
        "chunk ended by a bare LF": framed(size + b"\r\n" + BODY + b"\n" + END_CHUNK),
        "chunk ended by a bare CR": framed(size + b"\r\n" + BODY + b"\r" + END_CHUNK),
        "chunk ended by nothing": framed(size + b"\r\n" + BODY + END_CHUNK),
        "chunk ended by other bytes": framed(size + b"\r\n" + BODY + b"XX" + END_CHUNK),
        "chunk longer than its size": framed(b"%x" % (len(BODY) - 1) + b"\r\n" + BODY + rest),
        "chunk shorter than its size": framed(b"%x" % (len(BODY) + 1) + b"\r\n" + BODY + rest),
        "last chunk ended by bare LFs": framed(size + b"\r\n" + BODY + b"\r\n0\n\n"),
        "last chunk, CRLF LF": framed(size + b"\r\n" + BODY + b"\r\n0\r\n\n"),
        "last chunk, CRLF CR": framed(size + b"\r\n" + BODY + b"\r\n0\r\n\rX"),
        "extension with a bare LF": framed(size + b";a\nb\r\n" + BODY + rest),
        "extension with a bare CR": framed(size + b";a\rb\r\n" + BODY + rest),
        "extension with a NUL": framed(size + b";a=\x00\r\n" + BODY + rest),
        "extension hiding a chunk": framed(b"0;\n" + size + b"\r\n" + BODY + rest),
        "extension with an open quote": framed(size + b';a="b\r\n' + BODY + rest),
        "trailer": framed(whole[:-2] + b"X-Smuggled: 1\r\n\r\n"),
        "trailer with a length": framed(whole[:-2] + b"Content-Length: 4\r\n\r\n"),
        "trailer with a coding": framed(whole[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"),
        "trailer with a key": framed(whole[:-2] + KEY_LINE + b"\r\n\r\n"),
        "trailer with a Host": framed(whole[:-2] + HOST + b"\r\n\r\n"),
        "announced trailer": request(TE, b"Trailer: X-Sum", body=whole[:-2] + b"X-Sum: 1\r\n\r\n"),
        "trailer folded": framed(whole[:-2] + b"A: b\r\n c\r\n\r\n"),
        "trailer without a colon": framed(whole[:-2] + b"GET /x HTTP/1.1\r\n\r\n"),
        "chunks that are none": framed(BODY),
    }
    fine = {
        "leading zeros in a chunk size": framed(b"0000000" + whole),
        "capital digits in a chunk size": framed(size.upper() + b"\r\n" + BODY + rest),
        "a last chunk of many zeros": framed(whole[: -len(END_CHUNK)] + b"0000\r\n\r\n"),
        "one-byte chunks": framed(b"".join(map(chunk, pieces)) + END_CHUNK),
        "an extension": framed(size + b";a=b\r\n" + BODY + rest),
        "a quoted extension": framed(size + b';a="b;c"\r\n' + BODY + rest),
        "an extension without a value": framed(size + b";a\r\n" + BODY + rest),
        "an extension on the last chunk": framed(size + b"\r\n" + BODY + b"\r\n0;a=b\r\n\r\n"),
    }
    return refused(cases) + passed(fine)


def framing() -> list[Case]:
    """All that decides where a request ends."""
    return [*_both_lengths(), *_lengths(), *_chunks()]

"""HTTP/1.1 as RFC 9112 writes it and no more: the yardstick for what a gateway may take for a request.

Whoever reads more leniently than this reads something that another server may read otherwise, and between the two
readings a request can be smuggled. So all that the gateway lets through must be a request here too, the same one, and
all that it sends to a provider.

Stricter than the RFC, as the gateway says it is: origin form only, HTTP/1.0 and 1.1, exactly one Host in 1.1, no
trailers, `chunked` alone. Not stricter: any token is a method, empty lines may precede a request line, and several
spaces divide its words (§3). llhttp takes RTSP/1.1 for HTTP/1.1, and so does this: nothing hangs on it.
"""

import re
from typing import Literal, NamedTuple

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) +(/[\x21-\x7e\x80-\xff]*) +(?:HTTP|RTSP)/(1\.[01])\Z")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*\Z")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\Z")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\Z")

Fields = tuple[tuple[bytes, bytes], ...]
End = Literal["whole", "part", "malformed", "closed"]
"""Whether the bytes end where a message does, within one, where they are none, or behind the last one that counts."""


class Request(NamedTuple):
    """Names of fields are in lower case."""

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known == name]


class Answer(NamedTuple):
    status: int
    fields: Fields
    body: bytes

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.fields


class MalformedError(Exception):
    """This is not what the RFC writes."""


class _Part(Exception):
    """More would have to come."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def line(self) -> bytes:
        end = self.data.find(b"\r\n", self.at)
        if end < 0:
            rest = self.data[self.at :]
            if b"\n" in rest or b"\r" in rest[:-1]:
                raise MalformedError("a line without CRLF")
            raise _Part
        line, self.at = self.data[self.at : end], end + 2
        if b"\n" in line or b"\r" in line or b"\0" in line:
            raise MalformedError("CR, LF or NUL within a line")
        return line

    def take(self, size: int) -> bytes:
        if len(self.data) - self.at < size:
            self.at = len(self.data)
            raise _Part
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def fields(self) -> Fields:
        found = []
        while line := self.line():
            field = _FIELD.match(line)
            if field is None:
                raise MalformedError(f"no header field: {line!r}")
            found.append((field[1].lower(), field[2]))
        return tuple(found)

    def chunks(self) -> bytes:
        body = []
        while True:
            size = _CHUNK.match(self.line())
            if size is None:
                raise MalformedError("no chunk size")
            if not int(size[1], 16):
                break
            body.append(self.take(int(size[1], 16)))
            if self.take(2) != b"\r\n":
                raise MalformedError("more than its size in a chunk")
        if self.line():
            raise MalformedError("a trailer")
        return b"".join(body)

    def body(self, fields: Fields, version: bytes) -> bytes:
        lengths = [value for name, value in fields if name == b"content-length"]
        codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
        if codings:
            if codings != [b"chunked"] or lengths or version == b"1.0":
                raise MalformedError("a transfer coding that is not just chunked")
            return self.chunks()
        if not lengths:
            return b""
        if len(lengths) > 1 or not re.match(rb"[0-9]{1,18}\Z", lengths[0]):
            raise MalformedError("no length")
        return self.take(int(lengths[0]))


def read_requests(data: bytes) -> tuple[list[Request], End]:
    """The requests that these bytes are, as far as they are any, and how they end."""
    reader = _Reader(data)
    found: list[Request] = []
    try:
        while True:
            while data[reader.at : reader.at + 1] in (b"\r", b"\n"):
                reader.at += 1
            if reader.at == len(data):
                return found, "whole"
            request = _request(reader)
            found.append(request)
            if _closes(request):
                return found, "closed"
    except _Part:
        return found, "part"
    except MalformedError:
        return found, "malformed"


def _request(reader: _Reader) -> Request:
    line = _REQUEST_LINE.match(reader.line())
    if line is None:
        raise MalformedError("no request line")
    fields = reader.fields()
    hosts = sum(name == b"host" for name, _ in fields)
    if hosts > 1 or (not hosts and line[3] == b"1.1"):
        raise MalformedError("not one Host")
    return Request(line[1], line[2], line[3], fields, reader.body(fields, line[3]))


def _closes(request: Request) -> bool:
    """What follows is no request: the connection closes, or the client asked to speak something else."""
    options = {option.strip().lower() for value in request.values(b"connection") for option in value.split(b",")}
    upgrades = b"upgrade" in options and bool(request.values(b"upgrade"))
    return request.version == b"1.0" or b"close" in options or upgrades


def read_answers(data: bytes) -> list[Answer]:
    """The final answers of a gateway, none of them to HEAD. Raises MalformedError when the bytes are not just that."""
    reader = _Reader(data)
    final: list[Answer] = []
    try:
        while reader.at < len(data):
            line = _STATUS_LINE.match(reader.line())
            if line is None:
                raise MalformedError(f"no status line: {data[reader.at - 40 :][:80]!r}")
            status, fields = int(line[1]), reader.fields()
            if status >= 200:
                final.append(Answer(status, fields, b"" if status in (204, 304) else reader.body(fields, b"1.1")))
    except _Part:
        raise MalformedError(f"an answer without end: {data!r:.300}") from None
    return final

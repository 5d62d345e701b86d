"""How records lie in a segment: pure bytes in, records out.

    segment = magic | frame([SegmentHead]) | frame([record, …]) …
    frame   = length of the payload u32 | crc32 of the payload u32 | payload
    payload = MessagePack array of the records written at once, each an array tagged by its first element

A frame of length 0 is never written: a power cut can leave zeros at the end of a file, and eight zero bytes would
look like one.

Reading goes on past a bad frame only when another good one begins exactly where the bad one's own length says;
otherwise the rest is the tail of a write that was cut off, and ends there. (Searching the rest byte by byte would let
the *content* of a record pass for a record.)
"""

from collections.abc import Sequence
from struct import Struct
from typing import TypeVar
from zlib import crc32

import msgspec

from tollhouse.terms.errors import JournalError
from tollhouse.terms.events import HoldRecord, Record, SettleRecord

MAGIC = b"tollhouse journal\n"
FORMAT = 1
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_WORD = 200
"""Longest free text in a record that had to be mended to be written at all."""
FREE_TEXT = frozenset({"requested_model", "served_model", "code", "client", "session", "upstream_request_id"})

FRAME_HEAD = Struct("<II")
MAX_FRAME_BYTES = FRAME_HEAD.size + MAX_PAYLOAD_BYTES

StructT = TypeVar("StructT", bound=msgspec.Struct)


class SegmentHead(msgspec.Struct, frozen=True, array_like=True, tag="J"):
    """First frame of a segment."""

    format: int
    boot_id: str
    created_at_ns: int


class CleanEnd(msgspec.Struct, frozen=True, array_like=True, tag="C"):
    """Last frame of a segment that was closed on purpose."""

    at_ns: int


class SegmentText(msgspec.Struct, frozen=True):
    """What one segment says."""

    head: SegmentHead | None
    records: tuple[Record, ...]
    clean: bool
    """It ends with the mark of an orderly shutdown."""
    good_bytes: int
    """Up to here there are only whole frames or skipped bad ones."""
    tail_bytes: int
    """After `good_bytes`: nothing that can be read."""
    unfinished: bool
    """The tail is what a write cut short can leave: at most one frame, or zeros. Anything else is damage."""
    bad_frames: tuple[str, ...]
    """What was skipped before `good_bytes`, and why."""


def encode_frame(payload: bytes) -> bytes:
    """A payload with its length and checksum before it."""
    return _pack(len(payload), crc32(payload)) + payload


def encode_records(records: Sequence[Record | CleanEnd]) -> bytes:
    """Records written at once: one frame if they fit, more if they do not. A record that cannot be written as it is
    (lone surrogates, a number beyond 64 bits, endless text) is mended first.

    Raises JournalError for one that is too long all the same.
    """
    try:
        payload = _encode(records)
    except (UnicodeEncodeError, OverflowError):
        payload = b""
    if not payload or len(payload) > MAX_PAYLOAD_BYTES:
        if len(records) > 1:
            half = len(records) // 2
            return encode_records(records[:half]) + encode_records(records[half:])
        payload = _encode([mended(record) for record in records])
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise JournalError(f"a record of {len(payload)} bytes does not fit the journal ({MAX_PAYLOAD_BYTES})")
    return _pack(len(payload), crc32(payload)) + payload


def mended(struct: StructT) -> StructT:
    """The same with texts encodable, free texts cut, numbers within 64 bits."""
    fields = {name: getattr(struct, name) for name in struct.__struct_fields__}
    for name, value in fields.items():
        if isinstance(value, msgspec.Struct):
            fields[name] = mended(value)
        elif type(value) is str:
            text = value[:MAX_WORD] if name in FREE_TEXT else value
            fields[name] = text.encode(errors="replace").decode()
        elif type(value) is int:
            fields[name] = max(-(2**63), min(value, 2**63 - 1))
    return type(struct)(**fields)


def encode_head(head: SegmentHead) -> bytes:
    """The first bytes of a segment."""
    return MAGIC + encode_frame(msgspec.msgpack.encode([head]))


def decode_segment(data: bytes) -> SegmentText:
    """Read all of a segment; never raises on what it finds there."""
    if not data.startswith(MAGIC):
        return SegmentText(None, (), False, 0, len(data), MAGIC.startswith(data) or _zeros(data), ())
    head: SegmentHead | None = None
    records: list[Record] = []
    bad: list[str] = []
    clean = False
    offset = len(MAGIC)
    while offset < len(data):
        payload, after = _frame(data, offset)
        if payload is None:
            if after is None or _frame(data, after)[0] is None:
                break
            bad.append(f"checksum at byte {offset}")
        else:
            try:
                group = _decoder.decode(payload)
            except msgspec.MsgspecError as error:
                bad.append(f"unknown record at byte {offset}: {error}")
            else:
                for found in group:
                    clean = isinstance(found, CleanEnd)
                    if isinstance(found, SegmentHead):
                        head = found
                    elif not isinstance(found, CleanEnd):
                        records.append(found)
        offset = after or len(data)
    tail = data[offset:]
    unfinished = bool(tail) and (len(tail) <= MAX_FRAME_BYTES or _zeros(tail))
    return SegmentText(head, tuple(records), clean and not tail, offset, len(tail), unfinished, tuple(bad))


def _zeros(data: bytes) -> bool:
    return not data.strip(b"\0")


def _frame(data: bytes, offset: int) -> tuple[bytes | None, int | None]:
    """The good payload at an offset, or None; and where the next frame begins, or None when this one is not whole."""
    if offset + FRAME_HEAD.size > len(data):
        return None, None
    length, checksum = FRAME_HEAD.unpack_from(data, offset)
    start = offset + FRAME_HEAD.size
    end = start + length
    if not 0 < length <= MAX_PAYLOAD_BYTES or end > len(data):
        return None, None
    payload = data[start:end]
    return (payload if crc32(payload) == checksum else None), end


_pack = FRAME_HEAD.pack
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[SegmentHead | CleanEnd | HoldRecord | SettleRecord])

"""Holds, settlements and disks for the tests of the journal and the ledger."""

import errno
import os
from collections.abc import Callable
from typing import Any

import msgspec

from tollhouse.journal import Disk
from tollhouse.terms.events import HoldRecord, SettleKind, Settlement, SettleRecord
from tollhouse.terms.usage import Usage

T0_NS = 1_790_000_000_000_000_000
BUDGETS = (("bud_org", 0), ("bud_alice", 1_790_000_000))


def hold(number: int, **changes: Any) -> HoldRecord:
    request_id = f"req_{number:012x}"
    made = HoldRecord(
        attempt_id=f"{request_id}-1",
        request_id=request_id,
        at_ns=T0_NS + number,
        org_id="default",
        user_id="alice",
        key_id="key_1",
        endpoint="messages",
        provider="anthropic",
        requested_model="claude-sonnet-4-5",
        upstream_model="claude-sonnet-4-5-20250929",
        price_version="v1",
        hold_nusd=1_000_000,
        hold_tokens=9_000,
        max_output_tokens=8_000,
        streamed=True,
        budgets=BUDGETS,
        client="claude-cli",
        session="s1",
    )
    return msgspec.structs.replace(made, **changes)


def settle(number: int, **changes: Any) -> SettleRecord:
    made = SettleRecord(
        attempt_id=f"req_{number:012x}-1",
        at_ns=T0_NS + number + 10**9,
        kind=SettleKind.EXACT,
        amount_nusd=12_345,
        usage=Usage(1, 2, 3, 4, 5),
        served_model="claude-sonnet-4-5-20250929",
        status=200,
        code="",
        duration_us=1_500,
        first_byte_us=700,
        upstream_request_id="msg_1",
        response_bytes=99,
        tokens=15,
    )
    return msgspec.structs.replace(made, **changes)


def settlement(number: int, *, budgets: tuple[tuple[str, int], ...] = BUDGETS, **changes: Any) -> Settlement:
    """A call's whole story; unless given, `tokens` are what metering would say."""
    held, settled = hold(number, budgets=budgets), settle(number, **changes)
    if changes.keys() & {"kind", "usage"}:
        known = 0 if settled.kind is SettleKind.VOIDED else settled.usage.total_tokens()
        tokens = held.hold_tokens if settled.kind is SettleKind.UPPER else known
        settled = msgspec.structs.replace(settled, tokens=tokens)
    return Settlement(held, settled)


class FaultyDisk(Disk):
    """Fails the calls that `fails(name, count)` picks, count from 1 over all calls: with an error, or by a short
    write.
    """

    def __init__(self, fails: Callable[[str, int], int | None]) -> None:
        self._fails = fails
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        error = self._fails(name, len(self.calls))
        if error is not None:
            raise OSError(error, os.strerror(error))

    def write(self, descriptor: int, data: bytes) -> int:  # type: ignore[override]
        try:
            self._call("write")
        except OSError as error:
            if error.errno == errno.EAGAIN:  # stands for a write cut short
                return os.write(descriptor, data[: len(data) // 2])
            raise
        return os.write(descriptor, data)

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        self._call("fdatasync")
        os.fdatasync(descriptor)

    def ftruncate(self, descriptor: int, size: int) -> None:  # type: ignore[override]
        self._call("ftruncate")
        os.ftruncate(descriptor, size)

    def create(self, path: Any) -> int:
        self._call("create")
        return super().create(path)

    def remove(self, path: Any) -> None:
        self._call("remove")
        super().remove(path)

    def sync_directory(self, path: Any) -> None:
        self._call("sync_directory")
        super().sync_directory(path)

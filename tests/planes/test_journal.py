"""The journal on a real file system: what was acknowledged is there, whatever happened."""

import asyncio
import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.planes.records import FaultyDisk, hold, settle, settlement
from tollhouse.journal import Disk, Journal, JournalOptions, Replay
from tollhouse.journal.frames import encode_records
from tollhouse.journal.replay import replay_segments
from tollhouse.terms.errors import JournalError
from tollhouse.terms.events import SettleKind

WAIT_S = 30.0
"""For what comes at once where nothing is wrong."""


@contextmanager
def journal(
    directory: Path, *, disk: Disk | None = None, clock: Any = time.monotonic, **changes: Any
) -> Iterator[Journal]:
    defaults: dict[str, Any] = {"min_free_bytes": 0, "durability": "process"}
    opened = Journal.open(JournalOptions(directory=directory, **(defaults | changes)), disk=disk, clock=clock)
    try:
        yield opened
    finally:
        opened.close()


def replay(directory: Path) -> Replay:
    with journal(directory) as opened:
        return opened.replay()


def attempts(found: Replay) -> set[str]:
    return {one.hold.attempt_id for one in found.settlements} | {one.attempt_id for one in found.open_holds}


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.journal"))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# Reading back


@pytest.mark.parametrize("durability", ["process", "group", "strict"])
def test_what_was_written_is_read_back(tmp_path: Path, durability: str) -> None:
    with journal(tmp_path / "journal", durability=durability) as opened:
        for number in range(5):
            opened.append(hold(number))
        for number in range(3):
            opened.append(settle(number))
    found = replay(tmp_path / "journal")
    assert found.settlements == tuple(settlement(number) for number in range(3))
    assert found.open_holds == (hold(3), hold(4))
    assert (found.orphans, found.damage, found.torn_bytes, found.clean) == ((), (), 0, True)


def test_files_are_private(tmp_path: Path) -> None:
    with journal(tmp_path / "journal") as opened:
        opened.append(hold(1))
        assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in segments(tmp_path / "journal")] == [0o600]


def test_reading_again_gives_the_same_until_it_is_forgotten(tmp_path: Path) -> None:
    with journal(tmp_path) as opened:
        opened.append(hold(1))
        opened.append(settle(1))
    first = replay(tmp_path)
    assert replay(tmp_path).settlements == first.settlements == (settlement(1),)
    with journal(tmp_path) as opened:
        opened.forget()
        assert opened.replay() == Replay()
    assert attempts(replay(tmp_path)) == set()


def test_a_torn_tail_is_cut_at_every_offset_of_the_last_record(tmp_path: Path) -> None:
    with journal(tmp_path / "whole") as opened:
        opened.append(hold(1))
        before = segments(tmp_path / "whole")[0].stat().st_size
        opened.append(hold(2))
        data = segments(tmp_path / "whole")[0].read_bytes()
    for size in range(before, len(data)):
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / "0000000000000001.journal").write_bytes(data[:size])
        for _ in range(2):  # the cut is for good: the next start sees a whole segment, not a damaged one
            found = replay(directory)
            assert found.open_holds == (hold(1),)
            assert found.damage == ()
        assert found.torn_bytes == 0


def test_zeros_after_a_power_cut_are_a_torn_tail(tmp_path: Path) -> None:
    with journal(tmp_path) as opened:
        opened.append(hold(1))
        data = segments(tmp_path)[0].read_bytes()
    segments(tmp_path)[0].write_bytes(data + bytes(200_000))
    found = replay(tmp_path)
    assert (found.open_holds, found.torn_bytes, found.damage) == ((hold(1),), 200_000, ())


def test_a_bad_checksum_in_the_middle_costs_that_record_only_and_the_file_is_kept(tmp_path: Path) -> None:
    with journal(tmp_path) as opened:
        sizes = [segments(tmp_path)[0].stat().st_size]
        for number in range(3):
            opened.append(hold(number))
            sizes.append(segments(tmp_path)[0].stat().st_size)
    damaged = segments(tmp_path)[0]
    data = bytearray(damaged.read_bytes())
    data[sizes[1] + 20] ^= 1
    damaged.write_bytes(data)
    with journal(tmp_path) as opened:
        opened.append(hold(9))
    with journal(tmp_path) as opened:  # now an earlier segment is the damaged one
        found = opened.replay()
        opened.forget()
        assert opened.facts.damaged == 1
    assert attempts(found) == {hold(number).attempt_id for number in (0, 2, 9)}
    assert [damage.path for damage in found.damage] == [damaged]
    assert damaged.with_name(damaged.name + ".damaged").exists()
    assert not damaged.exists()


def test_an_unreadable_end_of_an_earlier_segment_loses_no_later_segment(tmp_path: Path) -> None:
    with journal(tmp_path) as opened:
        opened.append(hold(1))
        whole = segments(tmp_path)[0].stat().st_size
        opened.append(hold(2))
    first = segments(tmp_path)[0]
    with journal(tmp_path) as opened:
        opened.append(hold(3))
    first.write_bytes(first.read_bytes()[: whole + 30])
    found = replay(tmp_path)
    assert found.open_holds == (hold(1), hold(3))
    assert [damage.path for damage in found.damage] == [first]


def test_the_content_of_a_record_never_passes_for_a_record(tmp_path: Path) -> None:
    forged = encode_records([settle(1, amount_nusd=0)]).decode("latin-1")
    with journal(tmp_path) as opened:
        opened.append(hold(1))
        before = segments(tmp_path)[0].stat().st_size
        opened.append(hold(2, session=forged))
        data = bytearray(segments(tmp_path)[0].read_bytes())
    data[before] ^= 0x40  # the length of the second record
    segments(tmp_path)[0].write_bytes(data)
    found = replay(tmp_path)
    assert found.settlements == ()
    assert found.open_holds == (hold(1),)


def test_text_that_cannot_be_encoded_does_not_stop_the_journal(tmp_path: Path) -> None:
    with journal(tmp_path) as opened:
        opened.append(hold(1, session="\ud800", hold_nusd=2**80))
        opened.append(settle(1, served_model="x" * 100_000))
    (found,) = replay(tmp_path).settlements
    assert (found.hold.session, found.hold.hold_nusd) == ("?", 2**63 - 1)
    assert found.settle.served_model == "x" * 200


# Segments


def test_segments_are_deleted_once_all_in_them_is_shipped(tmp_path: Path) -> None:
    with journal(tmp_path, segment_bytes=2_000) as opened:
        for number in range(40):
            opened.append(hold(number))
            opened.append(settle(number))
        opened.sync()
        assert len(segments(tmp_path)) > 5
        opened.shipped([settlement(number) for number in range(40)])
        opened.sync()
        assert len(segments(tmp_path)) == 1
        assert opened.facts.open_holds == 0
    assert len(attempts(replay(tmp_path))) < 10


def test_a_settlement_outlives_every_copy_of_its_hold(tmp_path: Path) -> None:
    """Else a voided call would come back as a hold alone, and be charged."""
    with journal(tmp_path, segment_bytes=1_500, max_segments=1_000) as opened:
        opened.append(hold(0))  # never settled: keeps the first segment
        opened.append(hold(1))
        for number in range(2, 12):
            opened.append(hold(number))
            opened.append(settle(number))
        opened.append(settle(1, kind=SettleKind.VOIDED, amount_nusd=0))
        for number in range(12, 24):
            opened.append(hold(number))
            opened.append(settle(number))
        opened.shipped([settlement(number) for number in range(1, 24)])
        opened.sync()
    found = replay(tmp_path)
    assert found.open_holds == (hold(0),)
    assert hold(1).attempt_id in attempts(found)


def test_one_long_call_does_not_keep_all_segments(tmp_path: Path) -> None:
    with journal(tmp_path, segment_bytes=2_000, max_segments=3) as opened:
        opened.append(hold(0))
        for number in range(1, 200):
            opened.append(hold(number))
            opened.append(settle(number))
            opened.shipped([settlement(number)])
            if number % 10 == 0:
                opened.sync()
        opened.sync()
        assert len(segments(tmp_path)) <= 5
        assert opened.facts.open_holds == 1
    assert replay(tmp_path).open_holds == (hold(0),)


# Failures


def test_a_hold_that_cannot_be_written_is_refused_and_the_file_ends_at_the_last_good_record(tmp_path: Path) -> None:
    clock = Clock()
    failing = [errno.EAGAIN]  # a short write
    disk = FaultyDisk(lambda name, _count: failing[0] if name == "write" and failing else None)
    failing.clear()
    with journal(tmp_path, disk=disk, clock=clock) as opened:
        opened.append(hold(1))
        size = segments(tmp_path)[0].stat().st_size
        failing.append(errno.EAGAIN)
        with pytest.raises(JournalError, match="cut short"):
            opened.append(hold(2))
        assert segments(tmp_path)[0].stat().st_size == size
        assert not opened.healthy
        failing[0] = errno.ENOSPC
        clock.now += 2
        assert not opened.healthy
        failing.clear()
        assert not opened.healthy  # at most one attempt a second
        clock.now += 2
        assert opened.healthy
        opened.append(hold(3))
    found = replay(tmp_path)
    assert attempts(found) == {hold(1).attempt_id, hold(3).attempt_id}
    assert (found.damage, found.torn_bytes) == ((), 0)


def test_a_settlement_is_kept_and_written_first_when_the_journal_is_well_again(tmp_path: Path) -> None:
    clock = Clock()
    failing = [False]
    disk = FaultyDisk(lambda name, _count: errno.ENOSPC if name == "write" and failing[0] else None)
    with journal(tmp_path, disk=disk, clock=clock) as opened:
        opened.append(hold(1))
        failing[0] = True
        with pytest.raises(JournalError):
            opened.append(settle(1))
        assert opened.facts.parked == 1
        failing[0] = False
        clock.now += 2
        opened.append(hold(2))
        assert opened.facts.parked == 0
    assert replay(tmp_path).settlements == (settlement(1),)


def test_little_space_refuses_holds_but_takes_settlements(tmp_path: Path) -> None:
    clock = Clock()

    class SmallDisk(Disk):
        free = 10**9

        def free_bytes(self, path: Path) -> int:
            return self.free

    disk = SmallDisk()
    with journal(tmp_path, disk=disk, clock=clock, min_free_bytes=10**6, check_bytes=300) as opened:
        opened.append(hold(1))
        disk.free = 1000
        opened.append(hold(2))
        assert not opened.healthy
        assert "min_free_bytes" in opened.facts.trouble
        with pytest.raises(JournalError, match="min_free_bytes"):
            opened.append(hold(3))
        opened.append(settle(1))
        disk.free = 10**9
        clock.now += 2
        assert opened.healthy
        opened.append(hold(4))
    assert attempts(replay(tmp_path)) == {hold(number).attempt_id for number in (1, 2, 4)}


def test_a_failed_fsync_is_fatal_to_its_segment_and_nothing_is_lost(tmp_path: Path) -> None:
    failed: list[int] = []

    def fails(name: str, count: int) -> int | None:
        if name != "fdatasync" or failed:
            return None
        failed.append(count)
        return errno.EIO

    disk = FaultyDisk(fails)
    with journal(tmp_path, disk=disk, durability="group", sync_interval_s=60, retry_s=0) as opened:
        for number in range(3):
            opened.append(hold(number))
        opened.append(settle(0))
        opened.sync()
        assert failed
        assert len(segments(tmp_path)) == 2
        opened.sync()
        assert opened.healthy
        opened.append(settle(1))
    os.remove(segments(tmp_path)[0])  # as if nothing of it had reached the disk
    found = replay(tmp_path)
    assert found.settlements == (settlement(0), settlement(1))
    assert found.open_holds == (hold(2),)


def test_what_is_written_during_a_failing_fsync_is_not_lost_either(tmp_path: Path) -> None:
    late = iter([hold(2)])

    def fails(name: str, _count: int) -> int | None:
        if name != "fdatasync":
            return None
        for record in late:
            opened.append(record)
            return errno.EIO
        return None

    with journal(tmp_path, disk=FaultyDisk(fails), durability="group", sync_interval_s=60, retry_s=0) as opened:
        opened.append(hold(1))
        opened.sync()
        opened.sync()
    os.remove(segments(tmp_path)[0])
    assert attempts(replay(tmp_path)) == {hold(1).attempt_id, hold(2).attempt_id}


def test_nothing_is_called_synced_before_it_was_written_again(tmp_path: Path) -> None:
    clock = Clock()
    failing = [False]
    disk = FaultyDisk(lambda name, _count: errno.EIO if failing[0] and name in ("fdatasync", "create") else None)

    async def go() -> None:
        with journal(tmp_path, disk=disk, clock=clock, durability="strict", sync_interval_s=0.001) as opened:
            opened.append(hold(1))
            await opened.synced()
            failing[0] = True
            opened.append(hold(2))
            for _ in range(3):
                with pytest.raises(JournalError, match="could not be synced"):
                    await opened.synced()
                opened.sync()
            assert not opened.healthy
            failing[0] = False
            clock.now += 2
            assert opened.healthy
            await asyncio.wait_for(opened.synced(), WAIT_S)

    asyncio.run(go())
    os.remove(segments(tmp_path)[0])
    assert attempts(replay(tmp_path)) == {hold(2).attempt_id}


async def wait_for_disk(directory: Path, disk: Disk | None) -> None:
    with journal(directory, disk=disk, durability="strict", sync_interval_s=0.001, retry_s=0) as opened:
        for number in range(50):
            opened.append(hold(number))
            await asyncio.wait_for(opened.synced(), WAIT_S)


def test_strict_waits_for_the_disk(tmp_path: Path) -> None:
    disk = FaultyDisk(lambda _name, _count: None)
    asyncio.run(wait_for_disk(tmp_path, disk))
    assert disk.calls.count("fdatasync") >= 50


def test_whoever_waits_for_the_disk_does_not_wait_for_others_to_gather(tmp_path: Path) -> None:
    async def go() -> None:
        with journal(tmp_path, durability="strict", sync_interval_s=60) as opened:
            for number in range(20):
                opened.append(hold(number))
                await asyncio.wait_for(opened.synced(), WAIT_S)
                await asyncio.sleep(0.001 * (number % 3))

    asyncio.run(go())


def test_the_thread_syncs_unasked_from_rest_and_under_load(tmp_path: Path) -> None:
    disk = FaultyDisk(lambda _name, _count: None)
    with journal(tmp_path, disk=disk, durability="group", sync_interval_s=0.002) as opened:
        for number in range(3):
            time.sleep(0.02)  # it rests
            opened.append(hold(number))
            deadline = time.monotonic() + WAIT_S
            while opened.facts.unsynced and time.monotonic() < deadline:
                time.sleep(0.001)
            assert opened.facts.unsynced == 0
        before = disk.calls.count("fdatasync")
        number, deadline = 10, time.monotonic() + WAIT_S
        while disk.calls.count("fdatasync") <= before + 5 and time.monotonic() < deadline:
            opened.append(hold(number))
            number += 1
            time.sleep(0.0005)
        assert disk.calls.count("fdatasync") > before + 5


def test_enough_records_are_synced_before_the_interval_is_over(tmp_path: Path) -> None:
    with journal(tmp_path, durability="group", sync_interval_s=60, sync_records=8) as opened:
        deadline = time.monotonic() + WAIT_S
        number = 0
        while number < 8 or (opened.facts.unsynced >= 8 and time.monotonic() < deadline):
            opened.append(hold(number))
            number += 1
            time.sleep(0.005)
        assert opened.facts.unsynced < 8


def test_strict_tells_of_a_failed_sync(tmp_path: Path) -> None:
    disk = FaultyDisk(lambda name, count: errno.EIO if name == "fdatasync" else None)
    with pytest.raises(JournalError, match="could not be synced"):
        asyncio.run(wait_for_disk(tmp_path, disk))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EAGAIN])
@pytest.mark.parametrize("lasting", [False, True])
def test_a_failure_at_the_kth_call_for_every_k(tmp_path: Path, error: int, lasting: bool) -> None:
    """No acknowledged record is missing, whichever call to the operating system fails, once or from then on.

    After a single failure no settlement is missing either, not even one that `append` could not write at once.
    """
    trial = FaultyDisk(lambda _name, _count: None)
    held, settled, kept = exercise(tmp_path / "trial", trial)
    assert (len(held), len(settled), len(kept)) == (12, 4, 0)
    for k in range(1, len(trial.calls) + 1):

        def fails(_name: str, count: int, k: int = k) -> int | None:
            return error if count == k or (lasting and count > k) else None

        disk = FaultyDisk(fails)
        held, settled, kept = exercise(tmp_path / str(k), disk)
        found = replay(tmp_path / str(k))
        done = {one.hold.attempt_id for one in found.settlements}
        assert held <= attempts(found), f"call {k}: {disk.calls[k - 1]}"
        assert settled <= done, f"call {k}: {disk.calls[k - 1]}"
        assert lasting or kept <= done, f"call {k}: {disk.calls[k - 1]}"
        assert not found.orphans


def exercise(directory: Path, disk: Disk) -> tuple[set[str], set[str], set[str]]:
    """Attempts whose hold was acknowledged, whose settlement was, and whose settlement was only kept."""
    held: set[str] = set()
    settled: set[str] = set()
    kept: set[str] = set()
    options = JournalOptions(
        directory=directory, min_free_bytes=0, segment_bytes=1_200, sync_interval_s=60, retry_s=0, max_segments=2
    )
    try:
        opened = Journal.open(options, disk=disk)
    except JournalError:
        return held, settled, kept
    for number in range(12):
        attempt_id = hold(number).attempt_id
        try:
            opened.append(hold(number))
        except JournalError:
            continue
        held.add(attempt_id)
        if number % 3 == 0:
            try:
                opened.append(settle(number))
                settled.add(attempt_id)
            except JournalError:
                kept.add(attempt_id)
        if number % 4 == 0:
            opened.sync()
    opened.close()
    return held, settled, kept


def test_a_full_disk(tmp_path: Path) -> None:
    """A real one: a tmpfs of 64 KiB, or this process's file size limit where nothing can be mounted."""
    with small_disk(tmp_path / "small") as directory:
        with journal(directory, retry_s=0.01) as opened:
            written = fill(opened)
            assert 0 < len(written) < 2_000
            with pytest.raises(JournalError):
                opened.append(settle(0))
            assert opened.facts.parked == 1
        found = read_full(directory)
        assert set(written) == attempts(found)


def fill(opened: Journal) -> list[str]:
    written = []
    for number in range(2_000):
        try:
            opened.append(hold(number))
        except JournalError:
            break
        written.append(hold(number).attempt_id)
    return written


def read_full(directory: Path) -> Replay:
    """The disk is full: read it as the next start would, without writing."""
    return replay_segments(segments(directory), Disk())


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], capture_output=True, check=False
        ).returncode
    )
    if mounted:
        try:
            yield directory
        finally:
            subprocess.run(["umount", "-l", directory], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        yield directory
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Death


CHILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.planes.records import hold, settle
    from tollhouse.journal import Journal, JournalOptions

    journal = Journal.open(JournalOptions(directory=Path(sys.argv[1]), segment_bytes=20_000, min_free_bytes=0))
    number = int(sys.argv[2])
    while True:
        journal.append(hold(number))
        sys.stdout.write(f"H{number}\\n")
        if number % 2:
            journal.append(settle(number))
            sys.stdout.write(f"S{number}\\n")
        sys.stdout.flush()
        number += 1
    """
)


def test_every_acknowledged_record_survives_kill_9(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for round_number in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, tmp_path, str(round_number * 1_000_000)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        assert child.stdout is not None
        for _ in range(50 + 333 * round_number):
            acknowledged.add(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        acknowledged.update(line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n"))
        child.stdout.close()
        child.wait()
    found = replay(tmp_path)
    holds = {f"H{int(name[4:-2], 16)}\n" for name in attempts(found)}
    settles = {f"S{int(one.hold.request_id[4:], 16)}\n" for one in found.settlements}
    assert len(acknowledged) > 2_000
    assert acknowledged <= holds | settles
    assert found.damage == ()
    assert not found.clean


# Many at once


def test_records_entered_together_are_one_write_and_one_frame(tmp_path: Path) -> None:
    writes: list[int] = []
    disk = FaultyDisk(lambda name, count: writes.append(count) if name == "write" else None)
    with journal(tmp_path, disk=disk, durability="process") as opened:
        before = len(writes)
        for number in range(50):
            opened.enter(hold(number))
        opened.enter(settle(0))
        assert attempts(replay(tmp_path)) == set()
        opened.flush()
        opened.flush()
        assert len(writes) == before + 1
        found = replay(tmp_path)
        assert attempts(found) == {hold(number).attempt_id for number in range(50)}
        assert found.settlements == (settlement(0),)
    assert replay(tmp_path).clean


def test_a_group_that_fails_is_lost_whole_but_for_its_settlements(tmp_path: Path) -> None:
    clock = Clock()
    failing = [False]
    disk = FaultyDisk(lambda name, _count: errno.ENOSPC if name == "write" and failing[0] else None)
    with journal(tmp_path, disk=disk, clock=clock) as opened:
        opened.append(hold(1))
        opened.enter(hold(2))
        opened.enter(settle(1))
        opened.enter(hold(3))
        failing[0] = True
        with pytest.raises(JournalError) as refused:
            opened.flush()
        assert refused.value.lost == [hold(2).attempt_id, hold(3).attempt_id]
        with pytest.raises(JournalError):
            opened.enter(hold(4))
        failing[0] = False
        clock.now += 2
        opened.enter(hold(5))
        opened.flush()
    found = replay(tmp_path)
    assert attempts(found) == {hold(1).attempt_id, hold(5).attempt_id}
    assert found.settlements == (settlement(1),)
    assert found.damage == ()


def test_a_large_group_and_one_with_a_record_to_mend_are_written_whole(tmp_path: Path) -> None:
    with journal(tmp_path) as opened:
        for number in range(400):
            opened.enter(hold(number, session="s" * 400))
        opened.flush()
        opened.enter(hold(1_000))
        opened.enter(hold(1_001, session="\ud800", hold_nusd=2**80))
        opened.enter(settle(1_000, served_model="x" * 100_000))
        opened.flush()
    found = replay(tmp_path)
    assert len(found.open_holds) == 401
    assert len(found.settlements) == 1
    assert found.damage == ()


def test_a_group_that_was_cut_off_is_cut_whole(tmp_path: Path) -> None:
    with journal(tmp_path) as opened:
        opened.append(hold(1))
        opened.enter(hold(2))
        opened.enter(hold(3))
        opened.flush()
        path = segments(tmp_path)[0]
        data = path.read_bytes()
    path.write_bytes(data[:-1])
    found = replay(tmp_path)
    assert attempts(found) == {hold(1).attempt_id}
    assert found.torn_bytes > 0
    assert found.damage == ()

"""A beat finer than an event loop's timers.

epoll, asyncio and uvloop count in milliseconds. 128 streams of 100 events a second would then arrive in bursts of 13,
and a gateway that happens to read a burst in one go looks cheaper than it is: figures would hang on luck. A timerfd
ticks by the microsecond, so the streams take turns at equal distances.
"""

import ctypes
import os
from collections import deque
from typing import Protocol

_MONOTONIC = 1
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class Beaten(Protocol):
    """Something that moves one step a beat."""

    def step(self) -> bool:
        """Move; say whether there is more to come."""


class Metronome:
    """Serves its members round robin, each `per_second` times a second, at equal distances."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._members: deque[Beaten] = deque()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def add(self, member: Beaten) -> None:
        """Let `member` take part until its step() says that it has ended."""
        self._members.append(member)
        self._arm()

    def fileno(self) -> int:
        """The timerfd, to be watched for reading."""
        return self._fd

    def tick(self, mask: int) -> None:
        """The timerfd is readable: serve as many members as there were beats."""
        try:
            beats = int.from_bytes(os.read(self._fd, 8), "little")  # beats since the last read: none is lost
        except BlockingIOError:
            return
        members = self._members
        before = len(members)
        for _ in range(beats):
            if not members:
                break
            member = members.popleft()
            if member.step():
                members.append(member)
        if len(members) != before:
            self._arm()

    def _arm(self) -> None:
        pace_ns = int(1e9 / (self._per_second * len(self._members))) if self._members else 0  # 0 stops the timer
        pace = _Timespec(pace_ns // 1_000_000_000, pace_ns % 1_000_000_000)
        if self._libc.timerfd_settime(self._fd, 0, ctypes.byref(_Itimerspec(pace, pace)), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

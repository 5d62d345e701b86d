"""What the tracer lets fail, and that a machine on which it cannot is no success."""

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.tracer import Fault, failing

WRITER = """
import os, sys
files = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in sys.argv[1:]]
print("open", flush=True)
sys.stdin.readline()
for number in range(5):
    for file in files:
        try:
            os.write(file, b"%d" % number)
        except OSError as error:
            print(sys.argv[1 + files.index(file)], number, error.errno, flush=True)
print("end", flush=True)
sys.stdin.readline()
"""


def written(home: Path, fault: Fault) -> tuple[list[list[str]], int]:
    """What a process is told that writes five times to a journal and a database: [path, number, error]; and what the
    tracer counted.
    """
    (home / "journal").mkdir()
    paths = [str(home / "journal" / "0000000000000001.journal"), str(home / "tollhouse.db")]
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WRITER, *paths]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with failing(fault, process.pid, home) as tracer:
            process.stdin.write("\n")
            process.stdin.flush()
            lines = list(iter(process.stdout.readline, "end\n"))
        process.stdin.write("\n")
    return [line.split() for line in lines], tracer.failed["write"]


def test_one_write_of_one_file_fails(tmp_path: Path) -> None:
    said, failed = written(tmp_path, Fault("database", "write", "EIO", 3, lasting=False))
    assert said == [[str(tmp_path / "tollhouse.db"), "2", "5"]]
    assert failed == 1


def test_all_writes_of_one_file_fail_from_one_on(tmp_path: Path) -> None:
    said, failed = written(tmp_path, Fault("journal", "write", "ENOSPC", 2))
    assert [(number, error) for _, number, error in said] == [(str(number), "28") for number in range(1, 5)]
    assert failed == 4


def test_what_cannot_be_traced_is_a_failure(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with (
        pytest.raises(AssertionError, match="strace does not trace"),
        failing(Fault("journal", "write", "EIO"), gone.pid, tmp_path),
    ):
        pass

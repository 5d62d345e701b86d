"""Secrets where they stand: variables, files that are replaced in every way, helpers that misbehave in every way."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.planes.wire import run, until
from tollhouse.ports import Source
from tollhouse.rules.secret_references import SCHEMES
from tollhouse.sources import OPENERS, CommandOptions, FileOptions, SourceOptions, open_source, read_once
from tollhouse.sources.command import Command
from tollhouse.sources.files import File
from tollhouse.terms.errors import SettingsError, SourceError

SECRET = "sk-ant-api03-one-0123456789"
OTHER = "sk-ant-api03-two-0123456789"
NOBODY = 65534
AT_ONCE = FileOptions(poll_s=0.01, settle_s=0.01)


def test_every_scheme_has_an_opener() -> None:
    assert OPENERS.keys() == SCHEMES.keys()


def test_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        source = open_source("env:HERE_IT_IS", SourceOptions(), where="here")
        assert source.name == "env:HERE_IT_IS"
        with pytest.raises(SourceError, match="HERE_IT_IS is not set"):
            await source.read()
        monkeypatch.setenv("HERE_IT_IS", f" {SECRET}\n")
        reading = await source.read()
        assert (reading.secret, reading.lifetime_s, reading.again_s) == (SECRET, None, None)
        assert SECRET not in repr(reading)

    run(story())


# --- files


def rename(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


def overwrite(path: Path, text: str) -> None:
    path.write_text(text)


def same_size_and_time(path: Path, text: str) -> None:
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("replace", [rename, overwrite, same_size_and_time])
def test_a_file_that_is_replaced(tmp_path: Path, replace: Callable[[Path, str], None]) -> None:
    path = tmp_path / "key"

    async def story() -> None:
        path.write_text(SECRET + "\n")
        file = File(str(path), AT_ONCE)
        reading = await file.read()
        assert (reading.secret, reading.lifetime_s, reading.again_s) == (SECRET, None, AT_ONCE.poll_s)
        replace(path, OTHER + "\n")
        assert (await file.read()).secret == SECRET  # it is new: is that all of it?
        assert (await file.read()).secret == OTHER

    run(story())


def test_a_mounted_secret_of_kubernetes(tmp_path: Path) -> None:
    """`key` → `..data/key`, `..data` → a directory, and the link in the middle is pointed elsewhere."""

    def publish(version: str, text: str) -> None:
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(text)
        link = tmp_path / "..data_tmp"
        link.symlink_to(version)
        link.rename(tmp_path / "..data")

    async def story() -> None:
        publish("v1", SECRET)
        (tmp_path / "key").symlink_to("..data/key")
        file = File(str(tmp_path / "key"), AT_ONCE)
        assert (await file.read()).secret == SECRET
        publish("v2", OTHER)
        await file.read()
        assert (await file.read()).secret == OTHER

    run(story())


def test_half_of_a_key_is_never_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "key"

    async def story() -> None:
        path.write_text(SECRET)
        file = File(str(path), AT_ONCE)
        assert (await file.read()).secret == SECRET
        for end in range(len(OTHER)):  # someone writes slowly, and we look after each letter
            path.write_text(OTHER[:end])
            assert (await file.read()).secret == SECRET
        for instant_s in range(1, 4):  # someone writes the same half over and over: it is not done
            path.write_text(OTHER[:10])
            os.utime(path, (instant_s, instant_s))
            assert (await file.read()).secret == SECRET
        path.write_text(OTHER)
        await file.read()
        assert (await file.read()).secret == OTHER

    run(story())


def gone(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_text(" \n")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def large(path: Path) -> None:
    path.write_text("x" * 70_000)


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe secret")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (gone, "No such file"),
        (empty, "is empty"),
        (a_directory, "is not a file"),
        (a_pipe, "is not a file"),
        (large, "more than 65536 bytes"),
        (not_text, "is not text"),
    ],
)
def test_a_file_that_is_spoilt_is_told_when_it_stays_so(
    tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    path = tmp_path / "key"

    async def story() -> None:
        path.write_text(SECRET)
        file = File(str(path), AT_ONCE)
        await file.read()
        spoil(path)
        assert (await file.read()).secret == SECRET
        for _ in range(2):
            with pytest.raises(SourceError, match=told):
                await file.read()
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_text(OTHER)
        await file.read()
        assert (await file.read()).secret == OTHER
        path.unlink()
        spoilt = File(str(path), AT_ONCE)
        with pytest.raises(SourceError, match="No such file"):  # at the first look there is nothing to go on with
            await spoilt.read()

    run(story())


def test_a_file_nobody_may_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET)
    path.chmod(0)
    was = os.geteuid()
    if was == 0:  # who may read everything
        os.seteuid(NOBODY)
    try:
        with pytest.raises(SourceError, match="Permission denied"):
            File(str(path)).now()
    finally:
        os.seteuid(was)


# --- helpers


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return b") Z " in Path(f"/proc/{pid}/stat").read_bytes()


def test_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_MASTER_KEY", "the-owner-s-own")
    monkeypatch.setenv("HELPERS_REGION", "eu-1")
    line = script(tmp_path / "helper", f'env > "$1"; echo "a secret" >&2; echo "  {SECRET}  "')
    seen = tmp_path / "with a space"

    async def story() -> None:
        options = CommandOptions(environment=("PATH", "HELPERS_*"))
        source = open_source(f"cmd:{line} '{seen}'", SourceOptions(command=options), where="here")
        assert source.name == f"cmd:{line} …"
        reading = await source.read()
        assert (reading.secret, reading.lifetime_s) == (SECRET, 3600)
        passed = {one.partition("=")[0] for one in seen.read_text().splitlines()}
        assert passed - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "HELPERS_REGION"}

    run(story())


def test_no_shell_reads_the_line() -> None:
    async def story() -> None:
        reading = await Command("printf %s '$(id);' `id` $HOME ~ > x | y").read()
        assert reading.secret == "$(id);`id`$HOME~>x|y"

    run(story())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"echo {SECRET}; exit 1", "exited with 1"),
        (f"echo {SECRET}; kill -9 $$", "ended by signal 9"),
        ("", "printed nothing"),
        (r"printf '\377\376 sk-ant'", "not text"),
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "more than 1000 bytes"),
        (f"echo {SECRET}; exec sleep 600", "took longer than 0.3 s"),
        (f"echo {SECRET}; exec >&-; exec sleep 600", "took longer than 0.3 s"),
    ],
)
def test_a_helper_that_fails_says_nothing_it_printed(tmp_path: Path, text: str, told: str) -> None:
    line = script(tmp_path / "helper", text)

    async def story() -> None:
        timeout_s = 0.3 if "sleep" in text else 30.0
        with pytest.raises(SourceError, match=told) as failed:
            await Command(line, CommandOptions(timeout_s=timeout_s, max_bytes=1000)).read()
        assert "sk-ant" not in str(failed.value)

    run(story())


@pytest.mark.parametrize(
    ("line", "told"),
    [("/nowhere/helper", "No such file"), ("/etc/passwd", "Permission denied"), ("'open", "split"), (" ", "no helper")],
)
def test_a_helper_that_is_none(line: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        Command(line).now()


def test_what_a_helper_leaves_behind_is_ended(tmp_path: Path) -> None:
    line = script(tmp_path / "helper", f'sleep 600 & echo $! > "{tmp_path}/child"; echo {SECRET}')

    async def story() -> None:
        assert (await Command(line).read()).secret == SECRET
        child = int((tmp_path / "child").read_text())
        await until(lambda: ended(child))

    run(story())


def test_a_child_that_left_the_group_is_not_waited_for(tmp_path: Path) -> None:
    """It still holds the pipe open; that is its own affair."""
    line = script(tmp_path / "helper", f'setsid sleep 600 & echo $! > "{tmp_path}/child"; echo {SECRET}')
    child = tmp_path / "child"

    async def story() -> None:
        began = time.monotonic()
        assert (await Command(line, CommandOptions(timeout_s=300.0)).read()).secret == SECRET
        assert time.monotonic() - began < 200

    try:
        run(story())
    finally:
        if child.exists() and not ended(int(child.read_text())):
            os.kill(int(child.read_text()), signal.SIGKILL)


def test_who_no_longer_waits_ends_the_helper(tmp_path: Path) -> None:
    line = script(
        tmp_path / "helper", f'echo $$ > "{tmp_path}/pid.new"; mv "{tmp_path}/pid.new" "{tmp_path}/pid"; exec sleep 600'
    )
    pid = tmp_path / "pid"

    async def story() -> None:
        reading = asyncio.create_task(Command(line, CommandOptions(timeout_s=300.0)).read())
        await until(pid.exists)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await until(lambda: ended(int(pid.read_text())))

    run(story())


# --- once, and not at all


def test_a_secret_that_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONCE", SECRET)
    (tmp_path / "key").write_text("1:first\n2:second\n")
    assert read_once("env:ONCE", where="vault.master_keys") == SECRET
    assert read_once(f"file:{tmp_path}/key", where="vault.master_keys") == "1:first\n2:second"
    assert read_once("cmd:echo hello", where="vault.master_keys") == "hello"
    with pytest.raises(SettingsError, match=r"vault\.master_keys: the environment variable NO_SUCH is not set"):
        read_once("env:NO_SUCH", where="vault.master_keys")
    with pytest.raises(SettingsError, match=r"vault\.master_keys: write env:NAME"):
        read_once("vault:a/b#c", where="vault.master_keys")


@pytest.mark.parametrize("reference", ["sk-ant-api03-the-key-itself", "vault:mount#field", "http://x", "env:"])
def test_what_names_no_source(reference: str) -> None:
    with pytest.raises(SettingsError, match="here: ") as failed:
        open_source(reference, SourceOptions(), where="here")
    assert "the-key-itself" not in str(failed.value)


def test_a_vault_that_nobody_configured() -> None:
    with pytest.raises(SettingsError, match=r"here: no HashiCorp Vault is configured: set key_sources"):
        open_source("vault:a/b#c", SourceOptions(), where="here")


def test_what_is_stored_here() -> None:
    async def story() -> None:
        async def stored(name: str) -> str:
            return f"{name}-secret"

        source: Source = open_source("stored:main", SourceOptions(stored=stored), where="here")
        assert ((await source.read()).secret, source.name) == ("main-secret", "stored:main")
        with pytest.raises(SourceError, match="a gateway that runs"):
            await open_source("stored:main", SourceOptions(), where="here").read()

    run(story())

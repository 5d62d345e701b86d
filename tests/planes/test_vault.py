"""Envelopes open for whom they were sealed and nobody else; the file of master keys is never half."""

import os
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollhouse.app.vaulting import read_master_keys, vault_warnings
from tollhouse.settings import Settings
from tollhouse.terms.errors import SettingsError, VaultError
from tollhouse.vault import Binding, MasterKeys, Vault, key_file, parse_master_keys, version_of
from tollhouse.vault.envelope import Envelope
from tollhouse.vault.master_keys import new_line

KEYS = MasterKeys({1: b"1" * 32, 2: b"2" * 32})
BOUND = Binding("default", "own_1", "anthropic", "https://api.anthropic.com:443")
SEALED = Vault(KEYS).seal(b"sk-ant-api03-a-secret", BOUND)
names = st.text(max_size=20)


@given(st.binary(max_size=200), st.builds(Binding, names, names, names, names))
def test_what_was_sealed_opens_and_stands_nowhere_in_the_envelope(secret: bytes, bound: Binding) -> None:
    vault = Vault(KEYS)
    sealed = vault.seal(secret, bound)
    assert vault.unseal(sealed, bound) == secret
    assert version_of(sealed) == 2
    assert len(secret) < 4 or secret not in sealed
    assert vault.seal(secret, bound) != sealed  # a data key and nonces of its own


@given(st.data())
@settings(max_examples=400)
def test_no_changed_bit_goes_unnoticed(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, 8 * len(SEALED) - 1))
    changed = bytearray(SEALED)
    changed[place // 8] ^= 1 << place % 8
    with pytest.raises(VaultError):
        Vault(KEYS).unseal(bytes(changed), BOUND)


@given(st.sampled_from(Envelope.__struct_fields__), st.data())
def test_no_field_is_exchanged(name: str, data: st.DataObject) -> None:
    envelope = msgspec.msgpack.decode(SEALED, type=Envelope)
    old = getattr(envelope, name)
    other = data.draw(st.integers(0, 1 << 40) if isinstance(old, int) else st.binary(max_size=80))
    changed = msgspec.msgpack.encode(msgspec.structs.replace(envelope, **{name: other}))
    if other != old:
        with pytest.raises(VaultError):
            Vault(KEYS).unseal(changed, BOUND)


@given(st.binary(max_size=120))
def test_what_is_no_envelope_is_refused_in_words(data: bytes) -> None:
    for act in (Vault(KEYS).unseal, Vault(KEYS).rewrap):
        with pytest.raises(VaultError):
            act(data, BOUND)
    with pytest.raises(VaultError):
        version_of(b"\xc1" + data)


@given(st.sampled_from(Binding.__struct_fields__), names)
def test_it_opens_for_no_other_tenant_record_provider_or_host(name: str, other: str) -> None:
    if getattr(BOUND, name) != other:
        elsewhere = msgspec.structs.replace(BOUND, **{name: other})
        for act in (Vault(KEYS).unseal, Vault(KEYS).rewrap):
            with pytest.raises(VaultError, match="bound to another"):
                act(SEALED, elsewhere)


def test_parts_of_a_binding_do_not_run_into_each_other() -> None:
    sealed = Vault(KEYS).seal(b"x", Binding("ab", "c", "d", "e"))
    with pytest.raises(VaultError):
        Vault(KEYS).unseal(sealed, Binding("a", "bc", "d", "e"))


def test_a_master_key_that_is_not_here_is_named() -> None:
    with pytest.raises(VaultError, match=r"master key 2, which is not configured \(here: 1\)"):
        Vault(MasterKeys({1: b"1" * 32})).unseal(SEALED, BOUND)
    with pytest.raises(VaultError, match="another master key sealed it"):
        Vault(MasterKeys({2: b"x" * 32})).unseal(SEALED, BOUND)
    with pytest.raises(VaultError, match="tollhouse vault init"):
        Vault().seal(b"x", BOUND)


def test_the_newest_key_seals_and_rewrapping_moves_to_it() -> None:
    old = Vault(MasterKeys({1: b"1" * 32})).seal(b"secret", BOUND)
    moved = Vault(KEYS).rewrap(old, BOUND)
    assert (version_of(old), version_of(moved)) == (1, 2)
    assert Vault(MasterKeys({2: b"2" * 32})).unseal(moved, BOUND) == b"secret"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no master key"),
        ("# only a remark, and a comma", "holds no master key"),
        ("hello", "master key 1 is not VERSION:BASE64"),
        ("0:" + "A" * 44, "master key 1 is not VERSION:BASE64"),
        ("1:short", "master key 1 is not 32 bytes"),
        (f"7:{'A' * 43}=\n7:{'B' * 42}A=", "two different master keys 7"),
    ],
)
def test_keys_that_cannot_be_read_are_refused_without_telling_them(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as told:
        parse_master_keys(text, where="env:KEYS")
    assert not any(len(word) > 20 and word in str(told.value) for word in text.replace(":", " ").split())


def test_keys_are_read_from_lines_or_from_one_line() -> None:
    lines = [new_line(version) for version in (1, 2, 3)]
    for text in ("# a remark, with a comma\n" + "\n".join(lines), ",".join(lines), " ".join(lines)):
        keys = parse_master_keys(text, where="x")
        assert (keys.versions, keys.current) == ((1, 2, 3), 3)


def test_the_file_is_made_once_grows_and_forgets(tmp_path: Path) -> None:
    path = tmp_path / "home" / "master-keys"
    key_file.make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    first = path.read_text()
    with pytest.raises(SettingsError, match="is there already"):
        key_file.make(path)
    assert path.read_text() == first
    key_file.append(path, 2)
    assert path.read_text().startswith(first)
    with pytest.raises(SettingsError, match="changed meanwhile"):
        key_file.append(path, 2)
    with pytest.raises(SettingsError, match="newest"):
        key_file.forget(path, (1, 2))
    key_file.forget(path, (1,))
    assert parse_master_keys(path.read_text(), where="x").versions == (2,)
    assert path.read_text().startswith("# Master keys")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["master-keys"]


def test_what_a_crash_left_beside_the_file_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "master-keys"
    path.with_name("master-keys.new").write_text("half")
    key_file.make(path)
    path.with_name("master-keys.new").write_text("half")
    key_file.append(path, 2)
    assert parse_master_keys(path.read_text(), where="x").versions == (1, 2)


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    key_file.make(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    key_file.append(tmp_path / "link", 2)
    assert (tmp_path / "link").is_symlink()
    assert parse_master_keys((tmp_path / "real").read_text(), where="x").versions == (1, 2)


def test_two_keys_in_one_line_are_left_to_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "master-keys"
    path.write_text(f"{new_line(1)},{new_line(2)}\n")
    with pytest.raises(SettingsError):
        key_file.forget(path, (1,))
    assert parse_master_keys(path.read_text(), where="x").versions == (1, 2)


def test_a_file_too_long_to_be_read_whole_is_neither_cut_nor_used(tmp_path: Path) -> None:
    """What stands behind its bound would be lost as soon as it is written anew."""
    path = tmp_path / "master-keys"
    text = f"{new_line(1)}\n#{'x' * key_file.MAX_BYTES}\n{new_line(2)}\n"
    path.write_text(text)
    for act in (lambda: key_file.append(path, 2), lambda: key_file.forget(path, (1,))):
        with pytest.raises(SettingsError, match="has more than 65,536 bytes"):
            act()
    assert path.read_text() == text
    with pytest.raises(SettingsError, match="holds more than 65,536 characters"):
        read_master_keys(Settings(home=tmp_path))


def test_what_root_makes_is_its_directorys_owners(tmp_path: Path) -> None:
    whose = 65534 if os.geteuid() == 0 else os.geteuid()  # only root gives files away
    os.chown(tmp_path, whose, -1)
    key_file.make(tmp_path / "master-keys")
    key_file.append(tmp_path / "master-keys", 2)
    status = (tmp_path / "master-keys").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (whose, 0o600)


def test_a_file_that_others_read_and_secrets_that_do_not_open_are_warned_of(tmp_path: Path) -> None:
    settings, vault = Settings(home=tmp_path), Vault(KEYS)
    assert list(vault_warnings(settings, vault)) == []
    key_file.make(tmp_path / "master-keys")
    assert list(vault_warnings(settings, vault)) == []
    (tmp_path / "master-keys").chmod(0o644)
    vault.unopened = 3
    lost, seen = vault_warnings(settings, vault)
    assert lost.startswith("3 stored secrets cannot be opened")
    assert "can be read by others (mode 644)" in seen


def test_master_keys_come_from_a_file_a_variable_or_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = f"{new_line(1)}\n{new_line(2)}\n"
    (tmp_path / "keys").write_text(lines)
    monkeypatch.setenv("OUR_KEYS", lines.replace("\n", ","))
    for source in (f"file:{tmp_path}/keys", "env:OUR_KEYS", f"cmd:cat {tmp_path}/keys"):
        settings = Settings(home=tmp_path, vault={"master_keys": source})
        assert read_master_keys(settings).versions == (1, 2), source
    assert read_master_keys(Settings(home=tmp_path)).current == 0
    for source in ("file:/nowhere", "env:NOT_SET", "cmd:false"):
        with pytest.raises(SettingsError, match=r"vault\.master_keys"):
            read_master_keys(Settings(home=tmp_path, vault={"master_keys": source}))
    with pytest.raises(ValueError, match="never stands in the settings"):
        Settings(home=tmp_path, vault={"master_keys": new_line(1)})

"""Master keys: 32 bytes each, numbered from 1. The highest number seals; all of them open."""

import base64
import binascii
import secrets
from typing import Final

from tollhouse.terms.errors import SettingsError

KEY_BYTES: Final = 32
MAX_VERSION: Final = 1_000_000


class MasterKeys:
    """By version; may be empty, then nothing can be sealed or opened."""

    __slots__ = ("_keys", "current")

    def __init__(self, keys: dict[int, bytes]) -> None:
        self._keys = keys
        self.current = max(keys, default=0)
        """The version that seals; 0 without any."""

    def __contains__(self, version: int) -> bool:
        return version in self._keys

    def __getitem__(self, version: int) -> bytes:
        return self._keys[version]

    @property
    def versions(self) -> tuple[int, ...]:
        return tuple(sorted(self._keys))


NO_KEYS: Final = MasterKeys({})


def new_line(version: int) -> str:
    """A fresh master key as it is written down."""
    return f"{version}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def parse_master_keys(text: str, *, where: str) -> MasterKeys:
    """Read `VERSION:BASE64` of each line (or each part between spaces or commas). Raises SettingsError that names
    `where` and the place, never the key.
    """
    keys: dict[int, bytes] = {}
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for place, given in enumerate(" ".join(lines).replace(",", " ").split(), 1):
        number, colon, encoded = given.partition(":")
        if not colon or not number.isascii() or not number.isdigit() or not 0 < int(number) <= MAX_VERSION:
            raise SettingsError(f"{where}: master key {place} is not VERSION:BASE64; `tollhouse vault init` writes one")
        version = int(number)
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise SettingsError(f"{where}: master key {version} is not {KEY_BYTES} bytes in base64")
        if keys.get(version, key) != key:
            raise SettingsError(f"{where}: there are two different master keys {version}")
        keys[version] = key
    if not keys:
        raise SettingsError(f"{where}: holds no master key; `tollhouse vault init` writes one")
    return MasterKeys(keys)

"""The vault of a running house: the master keys at hand, and what they seal."""

from tollhouse.vault.envelope import Binding, read, rewrap, seal, unseal
from tollhouse.vault.master_keys import NO_KEYS, MasterKeys


class Vault:
    """Without master keys it opens and seals nothing, and says so. `keys` may be replaced at any time."""

    def __init__(self, keys: MasterKeys = NO_KEYS) -> None:
        self.keys = keys
        self.unopened = 0
        """Stored secrets that these do not open, when last counted."""

    @property
    def ready(self) -> bool:
        """Whether something can be stored."""
        return self.keys.current > 0

    def seal(self, secret: bytes, binding: Binding) -> bytes:
        """Raises VaultError without a master key."""
        return seal(self.keys, secret, binding)

    def unseal(self, sealed: bytes, binding: Binding) -> bytes:
        """Raises VaultError: damaged, bound to something else, or under a master key that is not here."""
        return unseal(self.keys, sealed, binding)

    def rewrap(self, sealed: bytes, binding: Binding) -> bytes:
        """Under the current master key. Raises VaultError as `unseal`."""
        return rewrap(self.keys, sealed, binding)


def version_of(sealed: bytes) -> int:
    """The master key an envelope lies under. Raises VaultError for what is none."""
    return read(sealed).version

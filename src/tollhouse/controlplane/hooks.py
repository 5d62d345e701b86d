"""What the routes of webhooks are handed: how secrets are sealed, and who delivers."""

from typing import Protocol

from tollhouse.terms.errors import VaultError
from tollhouse.terms.webhooks import Webhook


class Hooks(Protocol):
    """Webhooks of a running or resting house."""

    declared: tuple[Webhook, ...]
    """Those of the settings."""
    max_webhooks: int
    running: bool
    """Somebody delivers."""

    def check_url(self, url: str) -> str:
        """The same address. Raises ValueError."""
        ...

    def seal(self, webhook_id: str, secret: str) -> tuple[bytes, int]:
        """The envelope of a secret, and the version of its master key. Raises VaultError."""
        ...

    async def tried(self, webhook_id: str, notice_id: str) -> None:
        """Returns when this delivery has been tried, or that takes too long."""
        ...


class NoHooks:
    """Where there is no vault and nobody delivers."""

    declared: tuple[Webhook, ...] = ()
    max_webhooks = 0
    running = False

    def check_url(self, url: str) -> str:
        return url

    def seal(self, webhook_id: str, secret: str) -> tuple[bytes, int]:
        raise VaultError("there is no vault here")

    async def tried(self, webhook_id: str, notice_id: str) -> None:
        """Nobody tries."""

"""Stored credentials on the data plane: opened when a call first needs one, and ready to be sent from then on.

What was opened lives as long as what it was opened for: with another envelope, or another provider, it is opened anew;
with the credential it is forgotten.
"""

from collections.abc import Callable, Collection, Mapping
from operator import attrgetter

import msgspec

from tollhouse.dataplane.plan import Attempt
from tollhouse.terms.credentials import Credential, PaidBy, paid_by
from tollhouse.terms.people import DirectoryImage
from tollhouse.upstream.providers import Provider

Opener = Callable[[Provider, Credential], Provider]
"""The provider with this credential instead of its own. Raises VaultError, in words for whose credential it is."""

MAX_ATTEMPTS = 64
"""Remembered of one credential: each is a model by a name somebody asked for."""


class StoredKey:
    """A credential, of a user or of the operator, and what has been made of it."""

    __slots__ = ("_opened", "_opened_for", "attempts", "credential", "payer")

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.payer: PaidBy = paid_by(credential.credential_id)
        self._opened: Provider | None = None
        self._opened_for: Provider | None = None
        self.attempts: dict[Attempt, Attempt] = {}

    def sends(self, attempt: Attempt, opener: Opener) -> Attempt:
        """The same attempt, sent with this key. Raises VaultError."""
        keyed = self.attempts.get(attempt)
        if keyed is None:
            keyed = self._keyed(attempt, opener)
        return keyed

    def _keyed(self, attempt: Attempt, opener: Opener) -> Attempt:
        provider = attempt.provider
        if self._opened is None or self._opened_for is not provider:
            self.attempts.clear()
            self._opened, self._opened_for = opener(provider, self.credential), provider
        opened = self._opened
        lane = None
        if attempt.lane is not None:
            lane = opened.lanes[next(endpoint for endpoint, lane in provider.lanes.items() if lane is attempt.lane)]
        keyed = msgspec.structs.replace(
            attempt,
            provider=opened,
            lane=lane,
            credential_id=self.credential.credential_id,
            payer=self.payer.value.encode(),
        )
        if len(self.attempts) >= MAX_ATTEMPTS:
            self.attempts.clear()
        self.attempts[attempt] = keyed
        return keyed

    def become(self, credential: Credential) -> None:
        """It was read anew. What was opened stays when the envelope and what it is bound to do; when it was last used
        or refused is no matter.
        """
        mine, self.credential = self.credential, credential
        if _bound(mine) != _bound(credential):
            self._opened = None
            self.attempts.clear()


_bound = attrgetter("provider", "user_id", "org_id", "host", "base_url", "sealed")
"""The envelope, and what it is bound to."""
NO_KEYS: Mapping[str, StoredKey] = {}


class StoredKeys:
    """All of them, by user and provider."""

    def __init__(self) -> None:
        self._own: dict[str, dict[str, StoredKey]] = {}
        self._managed: dict[str, StoredKey] = {}
        """The operator's, by id."""
        self._assigned: dict[str, dict[str, StoredKey]] = {}

    @property
    def owners(self) -> Collection[str]:
        """Users who have any of their own."""
        return self._own.keys()

    def of_user(self, user_id: str) -> Mapping[str, StoredKey]:
        """Their own ones by provider."""
        return self._own.get(user_id, NO_KEYS)

    def assigned_to(self, user_id: str) -> Mapping[str, StoredKey]:
        """Those of the operator's that their calls are sent with, by provider."""
        return self._assigned.get(user_id, NO_KEYS)

    def replace(self, image: DirectoryImage, user_id: str | None) -> None:
        """Take over an image, as the snapshot does."""
        before = {
            key.credential.credential_id: key
            for theirs in (self._own.values() if user_id is None else [self._own.get(user_id, NO_KEYS)])
            for key in theirs.values()
        }
        before.update(self._managed)
        self._managed = {}
        if user_id is None:
            self._own, self._assigned = {}, {}
        else:
            self._own.pop(user_id, None)
            self._assigned.pop(user_id, None)
        for credential in image.credentials:
            key = before.get(credential.credential_id)
            if key is None:
                key = StoredKey(credential)
            else:
                key.become(credential)
            if credential.user_id:
                self._own.setdefault(credential.user_id, {})[credential.provider] = key
            else:
                self._managed[credential.credential_id] = key
        for holder, credential_id in image.assigned:
            given = self._managed.get(credential_id)
            if given is not None:
                self._assigned.setdefault(holder, {})[given.credential.provider] = given

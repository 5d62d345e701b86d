"""What a dialect is: how to read a request, edit it, meter its answer and refuse in its words. Bytes in, facts and bytes out.

A dialect holds no state and does no I/O, so one instance serves every call; only a `StreamMeter` belongs to one answer.
"""

from collections.abc import Sequence
from typing import Protocol

from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName
from tollhouse.terms.seen import Seen


class StreamMeter(Protocol):
    """Meters one streamed answer as it is relayed. `seen` is filled in as chunks pass and may be read at any time."""

    seen: Seen

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes from upstream and return what to relay now: the same object when nothing is edited. Never raises."""

    def close(self) -> bytes:
        """Upstream has ended: what was held back and must still be relayed; nearly always nothing."""


class Dialect(Protocol):
    """A wire language. Every method is pure."""

    @property
    def name(self) -> DialectName: ...

    @property
    def ping(self) -> bytes:
        """A whole event to send a client while the upstream is silent; clients take no notice of it."""

    def read(self, body: bytes) -> Ask:
        """What the request asks for.

        Raises Refusal (400) `invalid_json`, `invalid_request` or `duplicate_field`, saying what is wrong and where.
        """

    def edit(
        self,
        body: bytes,
        ask: Ask,
        *,
        model: str | None = None,
        max_output_tokens: int | None = None,
        include_usage: bool = False,
    ) -> bytes:
        """The body with these fields set and every other byte as it was. None and False leave a field alone.

        `ask` is what `read` made of this very body. Without edits the same object comes back.
        """

    def stream_meter(self, *, swallow_usage: bool) -> StreamMeter:
        """`swallow_usage`: the client did not ask for the usage `edit(include_usage=True)` brought; keep it from them."""

    def read_answer(self, body: bytes) -> Seen:
        """What a whole, non-streamed answer says. Never raises: what cannot be read has not been seen."""

    def refusal(self, refusal: Refusal, request_id: str) -> tuple[int, bytes]:
        """HTTP status and JSON body in this dialect's error envelope."""

    def model_list(self, models: Sequence[str], created_s: int) -> bytes:
        """The body of `GET /v1/models`."""

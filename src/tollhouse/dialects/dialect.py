"""What a dialect is: how to read a request, edit it, meter its answer, refuse in its words; bytes in, bytes out.

A dialect holds no state and does no I/O, so one instance serves every call; only a `StreamMeter` belongs to one answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tollhouse.dialects.body import Asked
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName
from tollhouse.terms.seen import Seen


class StreamMeter(Protocol):
    """Meters one streamed answer as it is relayed. `seen` is filled in as chunks pass and may be read at any time."""

    seen: Seen

    @property
    def between_events(self) -> bool:
        """What was relayed so far ends with a whole event: only now may a ping be put in."""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes from upstream; return what to relay now: the same object when nothing is edited.

        Never raises: what cannot be read is relayed and has not been seen.
        """

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
        """`swallow_usage`: the client did not ask for the usage `edit(include_usage=True)` brings; keep it back."""

    def read_answer(self, body: bytes) -> Seen:
        """What a whole, non-streamed answer says. Never raises: what cannot be read has not been seen."""

    def refusal(self, refusal: Refusal, request_id: str) -> tuple[int, bytes]:
        """HTTP status and JSON body in this dialect's error envelope."""

    def model_list(self, models: Sequence[str], created_s: int) -> bytes:
        """The body of `GET /v1/models`."""


MAX_COUNT = 2**53
"""Largest whole number a request may carry: what every JSON reader still reads exactly."""
MAX_REPORTED = 1 << 40
"""A provider's count beyond this is garbled."""
MAX_MODEL_CHARS = 256
MAX_LABEL_CHARS = 256
"""Sessions and end users are kept as labels; longer ones are cut."""

MODEL = Asked("model")
STREAM = Asked("stream")
MAX_TOKENS = Asked("max_tokens")
MESSAGES = Asked("messages")
"""Fields of nearly every body."""


def invalid(field: str, why: str) -> Refusal:
    """The provider would refuse this body as well; we do it because we read the field."""
    return Refusal(400, "invalid_request", f"{field}: {why}.", details={"field": str(field)})  # not as it is asked for


def read_model(fields: Mapping[str, Any]) -> str:
    """The `model` of a request. Raises Refusal (400)."""
    model = fields.get(MODEL)
    if model.__class__ is not str or not model:
        raise invalid("model", "a model name is required, such as the ones GET /v1/models lists")
    if len(model) <= MAX_MODEL_CHARS and model.isprintable():
        return model
    raise invalid("model", f"a model name is at most {MAX_MODEL_CHARS} printable characters")


def read_flag(fields: Mapping[str, Any], name: str) -> bool:
    """A boolean field; absent and null are False. Raises Refusal (400)."""
    value = fields.get(name)
    if value is None or value is False:
        return False
    if value is not True:
        raise invalid(name, "must be true or false")
    return True


def read_count(fields: Mapping[str, Any], name: str, *, least: int) -> int | None:
    """A whole number, also when written `1024.0`; None when absent or null. Raises Refusal (400)."""
    value = fields.get(name)
    if value.__class__ is int and least <= value <= MAX_COUNT:
        return value  # nearly always
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_COUNT:
        raise invalid(name, f"must be a whole number from {least} to {MAX_COUNT}")
    return value


def label(value: object) -> str:
    """A short text kept for attribution; empty when there is none."""
    if not isinstance(value, str):
        return ""
    return value[:MAX_LABEL_CHARS].encode(errors="replace").decode()


def clamp_count(value: int | None) -> int:
    """A count as a provider reported it, made safe to add up: never negative, never beyond any answer's size."""
    return min(max(value or 0, 0), MAX_REPORTED)


def refusal_facts(refusal: Refusal) -> dict[str, Any]:
    """What an error object says beyond its type and message; SDKs pass unknown members by."""
    facts: dict[str, Any] = {"code": refusal.code}
    if refusal.scope:
        facts["scope"] = refusal.scope
    if refusal.retry_after_s is not None:
        facts["retry_after_s"] = refusal.retry_after_s
    if refusal.details:
        facts["details"] = refusal.details
    return facts

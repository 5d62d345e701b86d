"""The lanes of the wire: each endpoint with its path, its models, its caps, and recorded answers."""

from dataclasses import dataclass

from tests.dialects.recorded import FOLDER, recording
from tests.planes.plane import KEY

COUNT = b'{"input_tokens": 2095}'


@dataclass(frozen=True)
class Lane:
    """One endpoint. `caps` are the names of its output cap, the one to add where there is none first."""

    name: str
    path: bytes
    target: bytes
    """Its path at the provider."""
    model: bytes
    provider: bytes
    """Whose name may stand before the model's."""
    caps: tuple[str, ...] = ()
    streams: bool = False
    includes_usage: bool = False
    """A stream has its usage only if `stream_options` ask for it."""
    prefixes: tuple[str, ...] = ()
    """Of the names of its recordings."""

    @property
    def posts(self) -> bool:
        """Calls cost something: there is a hold and a settlement."""
        return self.name != "count_tokens"

    def request(self, body: bytes, mark: str, *lines: bytes, query: bytes = b"", chunked: bool = False) -> bytes:
        """The head of a request with the good key; its mark is the session, which provider and hold get to see."""
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
        known = (b"host: tollhouse", b"x-api-key: " + KEY, b"x-session-id: " + mark.encode(), *lines, framing)
        return b"POST %b%b HTTP/1.1\r\n%b\r\n\r\n" % (self.path, query, b"\r\n".join(known))

    def recordings(self) -> list[str]:
        """Names of its recordings, the smallest of each kind first."""
        found = [path for prefix in self.prefixes for path in FOLDER.glob(prefix) if path.suffix in (".json", ".sse")]
        return [path.name for path in sorted(found, key=lambda path: (path.suffix, path.stat().st_size))]


MESSAGES = Lane(
    "messages",
    b"/v1/messages",
    b"/v1/messages",
    b"claude-x",
    b"mock",
    caps=("max_tokens",),
    streams=True,
    prefixes=("anthropic_*", "llama_messages*"),
)
COUNT_TOKENS = Lane("count_tokens", b"/v1/messages/count_tokens", b"/v1/messages/count_tokens", b"claude-x", b"mock")
CHAT = Lane(
    "chat",
    b"/v1/chat/completions",
    b"/v1/chat/completions",
    b"gpt-x",
    b"mockchat",
    caps=("max_completion_tokens", "max_tokens", "n_predict"),
    streams=True,
    includes_usage=True,
    prefixes=("openai_[!em]*", "openai_error*", "llama_chat*"),
)
RESPONSES = Lane(
    "responses",
    b"/v1/responses",
    b"/v1/responses",
    b"gpt-x",
    b"mockchat",
    caps=("max_output_tokens", "max_completion_tokens", "n_predict"),
    streams=True,
    prefixes=("responses_*", "llama_responses*"),
)
EMBEDDINGS = Lane(
    "embeddings", b"/v1/embeddings", b"/v1/embeddings", b"gpt-x", b"mockchat", prefixes=("openai_embeddings*",)
)
LANES = (MESSAGES, COUNT_TOKENS, CHAT, RESPONSES, EMBEDDINGS)


def recorded(name: str) -> bytes:
    """A recorded answer's body; `count` is the one answer too short to be recorded."""
    return COUNT if name == "count" else recording(name)

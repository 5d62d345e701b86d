"""Recorded answers on the wire: what of an answer has come at each byte, and what that must be settled as.

What closes an answer and what is hidden of it is read here a second time, from whole events and in the plainest way,
so that it can be held against what the meters make of bytes.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from tests.planes.wire import END_CHUNK, chunk
from tests.wire.lanes import CHAT, LANES, Lane, recorded
from tollhouse.terms.events import SettleKind

_SHOWS_ALL = ("gpt-3.5", "gpt-4", "chatgpt-4o")
_LLAMA_CPP = re.compile(r"b\d+-\w+$")
_CLOSING = ("response.completed", "response.incomplete", "response.failed")


@dataclass
class Track:
    """One recording in one lane. `asked` is whether the client wants the usage of a chat stream; unless `framed`, the
    answer lasts until its connection closes.
    """

    lane: Lane
    name: str
    asked: bool = True
    framed: bool = True
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.body = recorded(self.name)

    def __str__(self) -> str:
        return f"{self.lane.name} {self.name}{'' if self.asked else ' unasked'}{'' if self.framed else ' unframed'}"

    @property
    def stream(self) -> bool:
        return self.name.endswith(".sse")

    @property
    def status(self) -> int:
        return 400 if self.name.endswith("error.json") else 200

    @cached_property
    def events(self) -> list[bytes]:
        return [event + b"\n\n" for event in self.body.split(b"\n\n") if event] if self.stream else []

    @cached_property
    def head(self) -> bytes:
        kind = b"text/event-stream" if self.stream else b"application/json"
        framing = b"transfer-encoding: chunked" if self.stream else b"content-length: %d" % len(self.body)
        framing = framing if self.framed else b"connection: close"
        return b"HTTP/1.1 %d Recorded\r\ncontent-type: %b\r\n%b\r\n\r\n" % (self.status, kind, framing)

    @cached_property
    def wire(self) -> bytes:
        """The whole answer; in a stream each event is a chunk."""
        if not self.stream or not self.framed:
            return self.head + self.body
        return self.head + b"".join(map(chunk, self.events)) + END_CHUNK

    @cached_property
    def come(self) -> list[int]:
        """How many bytes of the body have come with the first n of the wire, for each n."""
        if not self.stream or not self.framed:
            return [max(0, at - len(self.head)) for at in range(len(self.wire) + 1)]
        found, body = [0] * len(self.head), 0
        for event in self.events:
            frame = len(b"%x\r\n" % len(event))
            found += [body] * frame + list(range(body, body + len(event))) + [body + len(event)] * 2
            body += len(event)
        return found + [body] * (len(END_CHUNK) + 1)

    @cached_property
    def kept(self) -> bytes:
        """What of the body the client gets when all is well."""
        if self.asked or not self.stream:
            return self.body
        return b"".join(event for event in self.events if not _only_usage(event))

    def request(self) -> bytes:
        """The body of a request that is answered so."""
        fields: dict[str, Any] = {"model": self.lane.model.decode(), "input": "hi"}
        if self.lane.caps:
            fields[self.lane.caps[0]] = 60_000  # room for whatever was recorded
        if self.stream:
            fields["stream"] = True
        if self.lane is CHAT and self.stream and self.asked:
            fields["stream_options"] = {"include_usage": True}
        return json.dumps(fields).encode()

    # --- what has been told with the first bytes of the body

    @cached_property
    def closing(self) -> int | None:
        """How much of the body must have come for its usage to be the provider's last word; None: it never is."""
        if not self.stream:
            told = json.loads(self.body).get("usage") is not None
            return len(self.body) if told else None
        end, told_input = 0, False
        for event in self.events:
            end += len(event)
            said = _said(event)
            told_input = told_input or _tells_input(said)
            if told_input and _closes(self.lane, event, said):
                return end
        return None

    @cached_property
    def completes(self) -> bool:
        """Its last event closes the stream: what comes behind it changes nothing."""
        said = _said(self.events[-1])
        closing = said.get("type") in ("message_stop", *_CLOSING)
        return closing or self.events[-1].strip() == b"data: [DONE]"

    def hides(self, come: int) -> bool:
        """Whether some of the output was generated out of sight in what had come."""
        said = [_said(event) for event in self._whole_events(come)]
        if self.lane.name == "messages":
            hidden = False
            for one in said:
                if one.get("type") == "content_block_start":
                    hidden = hidden or one["content_block"]["type"] in ("thinking", "compaction")
                elif one.get("type") == "content_block_stop":
                    hidden = False
            return hidden
        return not any(_shows_all(one) for one in said)

    def _whole_events(self, come: int) -> list[bytes]:
        found, end = [], 0
        for event in self.events:
            end += len(event)
            if end <= come:
                found.append(event)
        return found

    def kind_when_cut(self, come: int) -> SettleKind:
        """How a call is settled whose answer the provider broke off here."""
        told = self.closing is not None and come + self._slack >= self.closing
        return SettleKind.EXACT if told else SettleKind.UPPER

    @property
    def _slack(self) -> int:
        """Behind an answer without framing the last event is read also without its blank line."""
        return 0 if self.framed else 2

    def kind_when_whole(self) -> SettleKind:
        if self.closing is None and self.status >= 400:
            return SettleKind.VOIDED
        return self.kind_when_cut(len(self.body))

    def kind_when_left(self, come: int) -> SettleKind:
        """How a stream is settled whose client left here, if the provider stops its bill then."""
        kind = self.kind_when_cut(come)
        if self.is_complete(come) or kind is SettleKind.EXACT or self.hides(come):
            return kind
        return SettleKind.ESTIMATED

    def tells_its_end(self, come: int) -> bool:
        """What had come of a stream says that nothing that matters follows: usage, the closing event, or an error."""
        come += self._slack
        said = [_said(event) for event in self._whole_events(come)]
        failed = any(one.get("type") == "error" or one.get("error") for one in said)
        return failed or self.is_complete(come) or (self.closing is not None and come >= self.closing)

    def is_complete(self, come: int) -> bool:
        return self.completes and come >= len(self.body)


def _said(event: bytes) -> dict[str, Any]:
    lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
    data = b"\n".join(lines).strip()
    said = json.loads(data) if data.startswith(b"{") else {}
    assert isinstance(said, dict)
    return said


def _only_usage(event: bytes) -> bool:
    said = _said(event)
    return said.get("choices") == [] and said.get("usage") is not None


def _tells_input(said: dict[str, Any]) -> bool:
    usages = [said.get("usage"), *(said.get(name, {}).get("usage") for name in ("message", "response"))]
    return any(usage and ("input_tokens" in usage or "prompt_tokens" in usage) for usage in usages)


def _closes(lane: Lane, event: bytes, said: dict[str, Any]) -> bool:
    if lane is CHAT:
        return _only_usage(event) or event.strip() == b"data: [DONE]"
    if lane.name == "responses":
        return said.get("type") in _CLOSING and said["response"].get("usage") is not None
    stopped = said.get("type") == "message_delta" and said["delta"].get("stop_reason") is not None
    return stopped and "output_tokens" in said.get("usage", {})


def _shows_all(said: dict[str, Any]) -> bool:
    """This event tells that nothing of the output is hidden."""
    model = (said.get("response") or said).get("model") or ""
    deltas = [choice.get("delta") or {} for choice in said.get("choices") or ()]
    return (
        model.startswith(_SHOWS_ALL)
        or bool(_LLAMA_CPP.match(said.get("system_fingerprint") or ""))
        or any(delta.get("reasoning_content") for delta in deltas)
        or said.get("type") == "response.reasoning_text.delta"
    )


@cache
def tracks() -> tuple[Track, ...]:
    """Every recording in its lane, the smallest of each kind first; chat streams also without the usage asked for, and
    some without framing.
    """
    found = []
    for lane in LANES:
        names = lane.recordings() or ["count"]
        found += [Track(lane, name) for name in names]
        streams = [name for name in names if name.endswith(".sse")]
        found += [Track(lane, name, asked=False) for name in streams if lane is CHAT]
        found += [Track(lane, name, framed=False) for name in streams[:2]]
        found += [Track(lane, name, asked=False, framed=False) for name in streams[1:3] if lane is CHAT]
    return tuple(found)


@cache
def smallest() -> frozenset[str]:
    """Of each lane the shortest stream, and the shortest whole answer, that tells its usage."""
    best: dict[tuple[str, bool], Track] = {}
    for track in tracks():
        if not track.framed:
            continue
        kind = (track.lane.name, track.stream)
        if track.closing is not None and (kind not in best or len(track.wire) < len(best[kind].wire)):
            best[kind] = track
    return frozenset(str(track) for track in best.values())

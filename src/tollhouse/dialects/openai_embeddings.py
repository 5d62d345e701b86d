"""Embeddings in OpenAI's shape: text in, vectors out. There is only input to pay for, so nothing is capped or added.

Source: the types of the `openai` SDK 3.54 (November 2026). The input is one text or many, or their tokens as numbers.
Each of many is read on its own, so the model's window bounds one of them and not the call. Answers are never streamed.
"""

from typing import Any

import msgspec

from tollhouse.dialects.body import ODD, BodyReader
from tollhouse.dialects.dialect import clamp_count, label, read_model
from tollhouse.dialects.framing import decode_leniently
from tollhouse.dialects.openai_chat import OpenAIChatDialect
from tollhouse.dialects.openai_chat_answer import read_completion
from tollhouse.dialects.splice import splice
from tollhouse.terms.ask import Ask
from tollhouse.terms.names import DialectName
from tollhouse.terms.seen import Seen
from tollhouse.terms.usage import Usage

_Text = str | int
_READER = BodyReader(
    bool | int | float | str | list[_Text | list[_Text]] | None,
    frozenset({"input", "model", "user"}),
)


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None
    completion_tokens: int | None = None


class _Answer(msgspec.Struct):
    usage: _Usage | None = None
    model: str | None = None
    id: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class OpenAIEmbeddingsDialect(OpenAIChatDialect):
    """Embeddings; refusals and the model list are those of chat completions. See `Dialect`."""

    name = DialectName.OPENAI_EMBEDDINGS

    def read(self, body: bytes) -> Ask:
        fields = _READER.read(body)
        given: Any = fields.get("input")
        return Ask(
            model=read_model(fields),
            max_output_tokens=0,
            body_bytes=len(body),
            unbounded="input of an undocumented shape" if given is ODD else "",
            end_user=label(fields.get("user")),
            prompts=max(1, len(given)) if isinstance(given, list) else 1,
        )

    def edit(
        self,
        body: bytes,
        ask: Ask,
        *,
        model: str | None = None,
        max_output_tokens: int | None = None,  # there is no output
        include_usage: bool = False,
    ) -> bytes:
        return body if model is None else splice(body, {"model": msgspec.json.encode(model)})

    def read_answer(self, body: bytes) -> Seen:
        answer = decode_leniently(body, _ANSWER)
        if answer is None or answer.usage is None:
            return read_completion(body)  # an error, or unreadable
        said = answer.usage
        prompt = said.total_tokens if said.prompt_tokens is None else said.prompt_tokens
        known = prompt is not None
        return Seen(
            usage=Usage(input_tokens=clamp_count(prompt), output_tokens=clamp_count(said.completion_tokens)),
            input_known=known,
            final=known,
            complete=True,
            served_model=answer.model or "",
            upstream_message_id=answer.id or "",
        )


OPENAI_EMBEDDINGS = OpenAIEmbeddingsDialect()

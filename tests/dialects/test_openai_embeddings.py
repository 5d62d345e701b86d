"""Embeddings: input is all there is to read, bound and pay for."""

from typing import Any

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse

from tests.dialects.recorded import recording
from tollhouse.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal
from tollhouse.terms.seen import Seen
from tollhouse.terms.usage import Usage


def write(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "text-embedding-3-small", **fields})


@pytest.mark.parametrize(
    ("given", "prompts"),
    [("hi", 1), (["a", "b", "c"], 3), ([1, 2], 2), ([[1, 2], [3]], 2), ([], 1), (None, 1)],
)
def test_nothing_is_written_and_each_input_is_read_on_its_own(given: Any, prompts: int) -> None:
    body = write(input=given, user="alice", dimensions=256, encoding_format="base64", stream=True)
    assert OPENAI_EMBEDDINGS.read(body) == Ask(
        model="text-embedding-3-small",
        max_output_tokens=0,
        body_bytes=len(body),
        end_user="alice",
        prompts=prompts,
    )


@pytest.mark.parametrize("given", [{"image": "https://x"}, ["a", {"image": "https://x"}], [1.5]])
def test_an_input_of_another_kind_has_no_bound(given: Any) -> None:
    assert OPENAI_EMBEDDINGS.read(write(input=given)).unbounded == "input of an undocumented shape"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"input":"x"}', b'{"model":"a","input":"x","input":"y"}'])
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        OPENAI_EMBEDDINGS.read(body)
    assert caught.value.status == 400


def test_only_the_model_is_ever_edited() -> None:
    body = b'{ "input":"caf\\u00e9", "model" : "mine" }'
    ask = OPENAI_EMBEDDINGS.read(body)
    assert OPENAI_EMBEDDINGS.edit(body, ask, max_output_tokens=7, include_usage=True) is body
    assert OPENAI_EMBEDDINGS.edit(body, ask, model="x") == b'{ "input":"caf\\u00e9", "model" : "x" }'


def test_the_answer_is_metered_by_its_input() -> None:
    body = recording("openai_embeddings.json")
    CreateEmbeddingResponse.model_validate_json(body)
    assert OPENAI_EMBEDDINGS.read_answer(body) == Seen(
        usage=Usage(input_tokens=8), input_known=True, final=True, complete=True, served_model="text-embedding-3-small"
    )


def test_servers_that_report_the_total_alone() -> None:
    seen = OPENAI_EMBEDDINGS.read_answer(b'{"data":[],"usage":{"total_tokens":5}}')
    assert (seen.final, seen.usage) == (True, Usage(input_tokens=5))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"usage":', b'{"usage":{}}', b'{"usage":null}', b'{"data":[]}'])
def test_an_unreadable_answer_is_unknown(body: bytes) -> None:
    assert not OPENAI_EMBEDDINGS.read_answer(body).final


def test_an_error_body_is_named() -> None:
    body = b'{"error":{"code":501,"message":"This server does not support embeddings","type":"not_supported_error"}}'
    assert OPENAI_EMBEDDINGS.read_answer(body).failed == "not_supported_error"

"""What a provider says a call used."""

import msgspec


class Usage(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Token and tool counts of one attempt, disjoint: a token is counted in exactly one of the input fields.

    `input_tokens` is the uncached remainder, as Anthropic reports it; OpenAI's `prompt_tokens` is split by the dialect.
    `variant` names a dearer or cheaper way of serving the provider reported (`priority`, `flex`, `batch`, `fast`); None
    is standard.
    """

    input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    web_searches: int = 0
    web_fetches: int = 0
    variant: str | None = None

    @property
    def total_input_tokens(self) -> int:
        """All tokens of the prompt: uncached, cache writes, cache reads and audio."""
        return (
            self.input_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
            + self.cache_read_tokens
            + self.input_audio_tokens
        )

    @property
    def total_output_tokens(self) -> int:
        return self.output_tokens + self.output_audio_tokens

    def total_tokens(self) -> int:
        """All of both; a method, since it is asked of every call: a property costs three times that (CPython 3.11)."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
            + self.input_audio_tokens
            + self.output_audio_tokens
        )

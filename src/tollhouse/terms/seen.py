"""What has been seen of an answer so far: what a call is settled by, however it ends."""

import msgspec

from tollhouse.terms.usage import Usage

NO_USAGE = Usage()
"""Before the provider said anything; frozen, so everybody may share it."""

UNSEEN_TOKENS = 1 << 40
"""Added to the bound when part of the output is generated out of sight: larger than any answer, so the hold decides."""


class Seen(msgspec.Struct, kw_only=True):
    """Filled in by a dialect as an answer passes, read once when the call is settled.

    `usage` is only what the provider itself reported. While `final` is False it is at best the input side
    (`input_known`) and what output it had counted so far; `output_bound_tokens` then bounds the output that was
    observed: a token is at least one byte, so the bytes of what was generated are never fewer than its tokens.
    """

    usage: Usage = NO_USAGE
    input_known: bool = False
    """The provider reported the input side of `usage`."""
    final: bool = False
    """The provider's last word on `usage` has passed: it is what the provider bills."""
    complete: bool = False
    """The closing event (`message_stop`, `[DONE]`) or a whole answer body has passed."""
    served_model: str = ""
    failed: str = ""
    """Type of an error reported inside the answer, such as `overloaded_error`; empty when there was none."""
    output_bound_tokens: int = 0
    """No more tokens than this were generated in what has been observed. 0 when nothing generated has passed.

    At least UNSEEN_TOKENS when `hidden_output`; less UNSEEN_TOKENS it is then the bound of the visible part alone.
    """
    upstream_message_id: str = ""
    hidden_output: bool = False
    """Part of the output is billed but not shown, or only in summary (thinking): bytes do not bound it."""

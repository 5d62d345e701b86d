"""What a request asks for, as far as this house reads it. The body itself travels as bytes."""

import msgspec


class ServerTool(msgspec.Struct, frozen=True):
    """A tool the provider runs itself and bills by use. `max_uses` None: the client set no bound."""

    kind: str
    """`web_search`, `web_fetch` or the provider's own name of another one."""
    max_uses: int | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """The few facts of a body that decide where it goes and what it can cost."""

    model: str
    stream: bool = False
    max_output_tokens: int | None = None
    """The client's own cap; None when it set none."""
    cap_field: str = "max_tokens"
    """The field the cap stands in, or the one to add it as."""
    choices: int = 1
    body_bytes: int = 0
    whole_window: str = ""
    """Why the input cannot be bounded by the body's size (media, file ids, URLs, server state); empty when it can."""
    unbounded: str = ""
    """Name of a feature whose cost has no bound (`mcp_servers`, `background`, …); empty when there is none."""
    server_tools: tuple[ServerTool, ...] = ()
    thinking_budget_tokens: int = 0
    include_usage: bool = False
    """OpenAI chat: the client itself asked for the usage chunk of a stream."""
    session: str = ""
    end_user: str = ""
    prompts: int = 1
    """Inputs that are read on their own (embeddings): each may fill the context window."""

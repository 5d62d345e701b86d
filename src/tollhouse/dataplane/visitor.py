"""What the edge and whoever answers a request know of each other."""

from typing import TYPE_CHECKING

from tollhouse.dataplane.head import RequestHead

if TYPE_CHECKING:
    from tollhouse.dataplane.edge import Edge


class Visitor:
    """One data-plane request as the edge sees it; `exchange.Exchange` is the real one. Also what uvicorn expects of a
    cycle.
    """

    __slots__ = (
        "body",
        "body_bytes",
        "body_done",
        "disconnected",
        "edge",
        "head",
        "keep_alive",
        "response_complete",
        "started_at",
    )

    def __init__(self, edge: "Edge", head: RequestHead) -> None:
        self.edge = edge
        self.head = head
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.body_done = False
        self.keep_alive = head.keep_alive
        self.response_complete = False
        self.disconnected = False
        self.started_at = edge.loop.time()

    @property
    def message_event(self) -> "Visitor":
        """uvicorn sets its cycle's event when the connection ends; ours is told by `departed`."""
        return self

    def set(self) -> None:
        """See message_event."""

    # What the edge tells a visitor

    def arrived(self) -> None:
        """The head is complete and it is this request's turn; the body may still be coming."""
        raise NotImplementedError

    def begin(self) -> None:
        """The body is complete too."""
        raise NotImplementedError

    def departed(self) -> None:
        """The client is gone."""
        raise NotImplementedError

    def refuse(self, status: int, code: str, message: str) -> None:
        """The edge found something wrong: answer in the caller's dialect, then the connection closes."""
        raise NotImplementedError

    def failed(self) -> None:
        """A bug of ours ended the story: answer what can still be answered."""
        raise NotImplementedError

    def pause(self) -> None:
        """The client reads too slowly."""

    def resume(self) -> None:
        """The client reads again."""

    def tick(self, now: float) -> None:
        """Called by the sweep while this request is being answered."""

"""What a file declares, only that file changes: elsewhere it is read-only, so that nobody's change is undone in silence
by the next `tollhouse apply`.

What takes access away or gives it back (block, unblock, revoke, rotate) is no change of what a file says and never
waits for one.
"""

from tollhouse.controlplane.problems import Problem
from tollhouse.terms.people import Budget, Plan, Team, User, VirtualKey


def writable(thing: User | Team | VirtualKey | Plan | Budget) -> None:
    """Raises Problem (409, `declared`, with the file's name) for a thing that a file owns."""
    if thing.owned_by:
        raise Problem(
            409,
            "declared",
            f"{thing.owned_by} declares this: change it there and run `tollhouse apply -f {thing.owned_by}`.",
            extra={"owned_by": thing.owned_by},
        )

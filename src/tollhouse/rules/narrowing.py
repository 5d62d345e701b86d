"""Whether a change of a key only narrows what it admits: all that its user may do to it on their own."""

from tollhouse.terms.people import Limits, VirtualKey


def widened(old: VirtualKey, new: VirtualKey) -> str:
    """The first field in which a key would admit more than it did; empty when it only narrows or stays."""
    for name in Limits.__struct_fields__:
        before, after = getattr(old.limits, name), getattr(new.limits, name)
        if before is not None and (after is None or after > before):
            return f"limits.{name}"
    if old.models is not None and (new.models is None or not set(new.models) <= set(old.models)):
        return "models"
    if old.expires_at_ns is not None and (new.expires_at_ns is None or new.expires_at_ns > old.expires_at_ns):
        return "expires"
    if old.team_id is not None and new.team_id != old.team_id:
        return "team_id"
    if old.paused_at_ns is not None and new.paused_at_ns is None:
        return "paused"
    return ""

"""Rate limits: `memory` for one process."""

"""The composition root: the only place that names concrete adapters and puts the house together."""

from tollhouse.app.house import House
from tollhouse.app.offline import offline_api
from tollhouse.app.serve import serve

__all__ = ["House", "offline_api", "serve"]

"""For all tests: hypothesis without a deadline, because a busy machine is not a bug, and with the same examples in
every run, because a test that fails by the luck of its numbers is of no use to whoever changed something else. New
examples are for the long runs (`make soak`, `make chaos`) and for `make test ARGS=--hypothesis-profile=new`.
"""

from hypothesis import settings

settings.register_profile("new", deadline=None)
settings.register_profile("tollhouse", deadline=None, derandomize=True, database=None)
settings.load_profile("tollhouse")

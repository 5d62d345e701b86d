"""For all tests: hypothesis without a deadline, because a busy machine is not a bug."""

from hypothesis import settings

settings.register_profile("tollhouse", deadline=None)
settings.load_profile("tollhouse")

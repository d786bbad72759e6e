"""Settings for all tests."""

from hypothesis import settings

# No deadline: examples share the machine with whatever else runs on it, and no test is about time.
settings.register_profile("text4seg", deadline=None)
settings.load_profile("text4seg")

"""Settings of the whole suite."""

from hypothesis import settings

# a busy machine is no failure
settings.register_profile("treealign", deadline=None)
settings.load_profile("treealign")

"""Settings that every test runs under."""

import os

from hypothesis import settings

# Read when torch is loaded: threads that spin while they wait slow a shared machine to a crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# How long an example takes says nothing on a busy machine.
settings.register_profile("troth", deadline=None)
settings.load_profile("troth")

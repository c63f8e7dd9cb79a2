"""Settings that every test runs under."""

import os

from hypothesis import settings

# Read when torch is loaded, here and in the processes that tests start. Small products are quickest on one thread, and
# tests beside each other do not wait for each other's; threads that spin slow a shared machine to a crawl.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# How long an example takes says nothing on a busy machine.
settings.register_profile("troth", deadline=None)
settings.load_profile("troth")

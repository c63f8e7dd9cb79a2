"""Documents to knowledge: collect, validate, refine, integrate, with a reason on record for every decision."""

import os

# Arrow reads it when it is first imported; see `memory`.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

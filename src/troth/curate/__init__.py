"""Documents to knowledge: collect, validate, refine, integrate, with a reason on record for every decision."""

"""Facts over time: wordings that come back, the slots that they fill, timelines of what was true, and verdicts."""

from troth.curate.validate.slots.verdicts import Judged, TimedVerdict, judge_documents, judge_slots

__all__ = ["Judged", "TimedVerdict", "judge_documents", "judge_slots"]

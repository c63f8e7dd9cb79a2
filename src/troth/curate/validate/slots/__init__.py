"""Facts over time: wordings that come back, the slots that they fill, timelines of what was true, and verdicts."""

from troth.curate.validate.slots.relations import link
from troth.curate.validate.slots.slot import Slot, build_slots
from troth.curate.validate.slots.statements import Statement, publisher_statements
from troth.curate.validate.slots.survey import Survey, survey
from troth.curate.validate.slots.verdicts import Learned, TimedVerdict, judge_documents, judge_slots, learn

__all__ = [
    "Learned", "Slot", "Statement", "Survey", "TimedVerdict", "build_slots", "judge_documents", "judge_slots", "learn",
    "link", "publisher_statements", "survey",
]  # fmt: skip

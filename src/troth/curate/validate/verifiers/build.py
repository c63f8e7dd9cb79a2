"""The verifiers that a system names, ready to judge."""

from functools import partial
from pathlib import Path

from troth.curate.validate.verifiers.arithmetic import arithmetic
from troth.curate.validate.verifiers.dates import dates
from troth.curate.validate.verifiers.endpoint import EndpointJudge
from troth.curate.validate.verifiers.entailment import Classifier, EntailmentVerifier
from troth.curate.validate.verifiers.exact import Check, ExactChecker
from troth.curate.validate.verifiers.examples import code_findings
from troth.curate.validate.verifiers.lexical import LexicalVerifier
from troth.curate.validate.verifiers.protocol import Verifier
from troth.curate.validate.verifiers.ranges import ranges
from troth.curate.validate.verifiers.sandbox import Sandbox
from troth.curate.validate.verifiers.tables import TableLookup
from troth.curate.validate.verifiers.trained import TrainedVerifier
from troth.curate.validate.verifiers.units import units
from troth.system.curate import CurateTable

CHECKS: dict[str, Check] = {"arithmetic": arithmetic, "units": units, "dates": dates, "ranges": ranges}
"""The checks that need nothing but a sentence."""


def refuse_incomplete(settings: CurateTable, classifier: Classifier | None) -> None:
    """See that judges and writers have what they need.

    Raises ValueError naming the setting for which something is missing.
    """
    if "code" in settings.verifiers and (reason := _sandbox(settings).why_not()):
        raise ValueError(f"curate.verifiers: {reason}; leave code out, or set curate.run_code_unsafely=true")
    if "trained" in settings.verifiers and settings.trained_verifier is not None:
        TrainedVerifier.load(settings.trained_verifier)
    if "entailment" in settings.verifiers and classifier is None:
        raise ValueError("curate.entailment_model: name a model folder with a classification head")
    if settings.endpoint is None and "endpoint" in settings.verifiers:
        raise ValueError("curate.endpoint: the endpoint judge needs this table, with url and model")
    if settings.endpoint is None and "rephrased" in settings.forms:
        raise ValueError("curate.forms: rephrased needs the table curate.endpoint, with url and model")


def _sandbox(settings: CurateTable) -> Sandbox:
    return Sandbox(unsafe=settings.run_code_unsafely)


def build_verifiers(settings: CurateTable, home: Path, classifier: Classifier | None = None) -> list[Verifier]:
    """The verifiers of `settings`, in the order named there.

    `home` is where a curation keeps what they share: `tables.sqlite` (see `index_tables`; without it no table is looked
    up), `trained.npz`, the endpoint's `requests.sqlite`. `classifier` is what `entailment_model` names, read by the
    caller. Raises ValueError as `refuse_incomplete` does.
    """
    refuse_incomplete(settings, classifier)
    built: list[Verifier] = []
    for name in settings.verifiers:
        if name in CHECKS:
            built.append(ExactChecker(name, CHECKS[name]))
        elif name == "tables":
            if (home / "tables.sqlite").exists():
                built.append(TableLookup(home / "tables.sqlite"))
        elif name == "code":
            built.append(ExactChecker(name, partial(code_findings, sandbox=_sandbox(settings))))
        elif name == "lexical":
            built.append(LexicalVerifier())
        elif name == "trained":
            built.append(TrainedVerifier.load(settings.trained_verifier or home / "trained.npz"))
        elif name == "entailment":
            assert classifier is not None
            built.append(EntailmentVerifier(classifier))
        else:
            assert settings.endpoint is not None
            built.append(EndpointJudge(settings.endpoint, home / "requests.sqlite"))
    return built

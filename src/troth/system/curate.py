"""[curate]: what counts as a duplicate, as evidence, and as enough of it."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from troth.system.table import Table

VerifierName = Literal[
    "arithmetic", "units", "dates", "ranges", "tables", "code", "lexical", "trained", "entailment", "endpoint"
]


class EndpointTable(Table):
    """[curate.endpoint]: an OpenAI-compatible endpoint as judge. `url` ends before `/chat/completions`; the key is read
    from the environment variable `api_key_env` names. Limits are per minute, 0 for none; prices per million tokens."""

    url: str = Field(pattern=r"^https?://")
    model: str
    api_key_env: str = ""
    concurrency: int = Field(default=8, gt=0)
    requests_per_minute: float = Field(default=0, ge=0)
    tokens_per_minute: float = Field(default=0, ge=0)
    timeout_seconds: float = Field(default=60, gt=0)
    attempts: int = Field(default=6, gt=0)
    max_tokens: int = Field(default=512, gt=0)
    price_in: float = Field(default=0, ge=0)
    price_out: float = Field(default=0, ge=0)


class CurateTable(Table):
    """Thresholds of curation. Shares and probabilities lie between 0 and 1."""

    near_duplicate: float = Field(default=0.5, gt=0, le=1)
    min_words: int = Field(default=20, ge=0)
    evidence_top_k: int = Field(default=16, gt=0)
    canary_rate: float = Field(default=0.15, gt=0, lt=1)
    act_above: float = Field(default=0.3, gt=0, lt=1)
    verifiers: tuple[VerifierName, ...] = ("arithmetic", "units", "dates", "ranges", "tables", "lexical")
    """Who judges claims besides the agreement of sources. `trained` and `entailment` need their files below, `endpoint`
    its table, `code` a system that lets code be isolated (or `run_code_unsafely`)."""
    tables: tuple[str, ...] = ()
    """Tables that claims are looked up in besides those of the corpus: files or folders that curation reads."""
    trained_verifier: Path | None = None
    """What `bench/verifiers.py --save` or a curation wrote; without it the corpus trains one."""
    entailment_model: Path | None = None
    """A model folder with a classification head that says what a passage says of a claim."""
    run_code_unsafely: bool = False
    endpoint: EndpointTable | None = None

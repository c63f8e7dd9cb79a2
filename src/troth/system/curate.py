"""[curate]: what counts as a duplicate, as evidence, and as enough of it."""

from pathlib import Path
from typing import Annotated, Literal

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
    """Thresholds and policy of curation. Shares and probabilities lie between 0 and 1.

    Stages are worked on by so many `workers` (0: as many as there are cores) of an `executor`: processes of this
    machine (`local`), a Ray cluster or Slurm.

    `text_column` is the field of JSON records and the column of tables that holds a document's text.

    Filters: a text stays in one of the `languages` (ISO 639-1 codes; all, where the list is empty) that passes the
    `rules`: `lenient` ones, those of Gopher, C4 and FineWeb as `published`, or `none`. Past the limits `toxic_above`,
    `loaded_above` and `quality_below` a text goes; without a limit they are not asked. A quality model is trained where
    `quality_below` is given, on the folders `good` and `bad` of `quality_examples` or, without those, on what passes
    and what fails the rules. `personal_data` and `secrets` give way to placeholders; text of the files that
    `benchmarks` names goes. Of texts that share `near_duplicate` of the smaller one's five words in a row the one
    published first stays. Of three sentences in a row that `repeated_in` documents or more have in common the first
    stays (0: all stay). A text of fewer than `min_words` words goes, by the `lenient` rules and where so little is left
    without what it repeats.

    A claim is held against the `evidence_top_k` sentences of others that are nearest to it, and refuted where it is
    wrong with a probability above `act_above`. How many claims are wrong is estimated, from `canary_rate` on and at
    most that share.

    The policy says what becomes of a `superseded` statement, of a `contested` one, and of an `unmendable` one that is
    hardly credible (its probability below `drop_below`). A run that flags more than `max_false_alarms` of the claims
    that others confirm, or drops more than `max_viewpoint_loss` of the documents of a viewpoint, is not integrated.
    `references` are collections (files, folders, URLs) that testify and are not judged.
    """

    executor: Literal["local", "ray", "slurm"] = "local"
    workers: int = Field(default=0, ge=0)

    text_column: str = Field(default="text", min_length=1)
    languages: list[Annotated[str, Field(pattern="^[a-z]{2,3}$")]] = Field(default=["en"])
    rules: Literal["lenient", "published", "none"] = "lenient"
    toxic_above: float | None = Field(default=0.02, ge=0, le=1)
    loaded_above: float | None = Field(default=None, ge=0, le=1)
    quality_below: float | None = Field(default=None, ge=0, le=1)
    quality_examples: str = ""
    personal_data: bool = True
    secrets: bool = True
    benchmarks: list[str] = Field(default_factory=list)
    repeated_in: int = Field(default=2, ge=0)
    near_duplicate: float = Field(default=0.5, gt=0, le=1)
    min_words: int = Field(default=20, ge=0)
    evidence_top_k: int = Field(default=16, gt=0)
    canary_rate: float = Field(default=0.15, gt=0, lt=1)
    act_above: float = Field(default=0.3, gt=0, lt=1)
    drop_below: float = Field(default=0.15, ge=0, lt=1)
    superseded: Literal["date", "keep"] = "date"
    contested: Literal["attribute", "keep"] = "attribute"
    unmendable: Literal["drop", "label", "keep"] = "drop"
    max_false_alarms: float = Field(default=0.02, ge=0, le=1)
    max_viewpoint_loss: float = Field(default=0.75, ge=0, le=1)
    references: tuple[str, ...] = ()
    forms: tuple[Literal["questions", "rephrased"], ...] = ()
    """Further forms of the curated text for training, in collections of their own: `questions` and answers, and the
    words of the `endpoint` where they say the same."""

    verifiers: tuple[VerifierName, ...] = ("arithmetic", "units", "dates", "ranges", "tables")
    """Who judges claims besides the agreement of sources. `entailment` needs its model below, `endpoint` its table,
    `code` a system that lets code be isolated (or `run_code_unsafely`)."""
    tables: tuple[str, ...] = ()
    """Tables that claims are looked up in besides those of the corpus: files or folders that curation reads."""
    trained_verifier: Path | None = None
    """What `bench/verifiers.py --save` or a curation wrote; without it the corpus trains one."""
    entailment_model: Path | None = None
    """A model folder with a classification head that says what a passage says of a claim."""
    run_code_unsafely: bool = False
    """Lets the verifier `code` run what documents hold without a sandbox, where the system has none."""
    endpoint: EndpointTable | None = None
    """The judge `endpoint`, which also rephrases."""

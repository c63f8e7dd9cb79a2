"""llm-comply's checks of the answers' schemas, against a server with a random model that knows conversations."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import llm_comply
import pytest
from llm_comply.config import ComplianceConfig
from llm_comply.result import TestStatus as Status
from llm_comply.runner import TestRunner as Runner
from llm_comply.schema import SpecLoader
from llm_comply.tests.anthropic import ANTHROPIC_TESTS
from llm_comply.tests.open_responses import OPEN_RESPONSES_TESTS
from llm_comply.tests.openai_chat import OPENAI_CHAT_TESTS

SPECS = Path(llm_comply.__file__).parent / "specs"
# The model reads text only; what is asked with a picture is refused.
PICTURES = {"chat-image-input", "image-input", "anth-image-input"}


@pytest.fixture(scope="module")
def comply(
    run_server: Callable[..., AbstractContextManager[str]], talker: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComplianceConfig]:
    # Reasoning is checked only of models with such names.
    model = tmp_path_factory.mktemp("models") / "o1-and-claude-4"
    model.symlink_to(talker)
    with run_server(model, max_step_tokens=256, cache_tokens=512) as url:
        yield ComplianceConfig(base_url=f"{url}/v1", api_key="none", model=model.name)


@pytest.mark.parametrize(
    ("cases", "spec"),
    [
        (OPENAI_CHAT_TESTS, "openai_chat.json"),
        (OPEN_RESPONSES_TESTS, "openresponses.json"),
        (ANTHROPIC_TESTS, "anthropic.json"),
    ],
    ids=["chat", "responses", "messages"],
)
def test_all_checks_pass_but_those_with_pictures(comply: ComplianceConfig, cases: list, spec: str):
    runner = Runner(comply, cases, SpecLoader(str(SPECS / spec)))
    results = [runner.run_one(case) for case in cases]
    # A random model may say nothing at all, or go on to the limit: then it is asked again.
    for i, case in enumerate(cases):
        tries = 0
        while results[i].status is Status.FAILED and case.id not in PICTURES and tries < 25:
            results[i] = runner.run_one(case)
            tries += 1
    statuses = {result.id: (result.status, result.errors) for result in results}
    pictures = {name: statuses.pop(name) for name in PICTURES & statuses.keys()}
    assert all(status is Status.PASSED for status, _ in statuses.values()), statuses
    assert [errors[0] for _, errors in pictures.values()] == ["HTTP 400 (expected [200])"]

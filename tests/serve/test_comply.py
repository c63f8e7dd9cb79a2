"""llm-comply's checks of the answers' schemas, against a server with a random model that knows conversations."""

from pathlib import Path

import llm_comply
import pytest
from llm_comply.config import ComplianceConfig
from llm_comply.result import TestStatus
from llm_comply.runner import TestRunner
from llm_comply.schema import SpecLoader
from llm_comply.tests.anthropic import ANTHROPIC_TESTS
from llm_comply.tests.open_responses import OPEN_RESPONSES_TESTS
from llm_comply.tests.openai_chat import OPENAI_CHAT_TESTS

SPECS = Path(llm_comply.__file__).parent / "specs"
# The model reads text only; what is asked with a picture is refused.
PICTURES = {"chat-image-input", "image-input", "anth-image-input"}


def failures(url: str, cases: list, spec: str) -> dict[str, list[str]]:
    config = ComplianceConfig(base_url=f"{url}/v1", api_key="none", model="talker")
    suite = TestRunner(config, cases, SpecLoader(str(SPECS / spec))).run_all()
    assert len(suite.results) == len(cases)
    return {result.id: result.errors for result in suite.results if result.status is TestStatus.FAILED}


@pytest.mark.parametrize(("cases", "spec"), 
    [
        (OPENAI_CHAT_TESTS, "openai_chat.json"),
        (OPEN_RESPONSES_TESTS, "openresponses.json"),
        (ANTHROPIC_TESTS, "anthropic.json"),
    ],
    ids=["chat", "responses", "messages"],
)
def test_all_checks_pass_but_those_with_pictures(talking: str, cases: list, spec: str):
    failed = failures(talking, cases, spec)
    assert failed.keys() <= PICTURES, failed

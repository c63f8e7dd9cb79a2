"""The chat page in a real browser, over a real server with a random model."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from troth.model.config import ModelConfig

SECONDS = 60


@pytest.fixture
def page(browser: webdriver.Chrome, server: str) -> Iterator[webdriver.Chrome]:
    browser.get(server)
    browser.execute_script("localStorage.clear(); sessionStorage.clear()")
    browser.get(server)
    wait(browser, lambda: browser.title == "tiny")
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def wait(browser: webdriver.Chrome, condition: Any) -> Any:
    return WebDriverWait(browser, SECONDS, 0.05).until(lambda _: condition())


def find(page: webdriver.Chrome, css: str) -> list[Any]:
    return page.find_elements(By.CSS_SELECTOR, css)


def settle(page: webdriver.Chrome, **values: Any) -> None:
    """Fill in the settings as a person does."""
    find(page, "#open-settings")[0].click()
    for name, value in values.items():
        [field] = find(page, f"#{name}")
        if isinstance(value, bool):
            if field.is_selected() != value:
                field.click()
        else:
            field.clear()
            field.send_keys(str(value))
    find(page, "#settings button")[0].click()


def say(page: webdriver.Chrome, text: str) -> None:
    find(page, "#say")[0].send_keys(text, Keys.ENTER)


def finished(page: webdriver.Chrome) -> bool:
    return find(page, "#send")[0].is_displayed()


def answers(page: webdriver.Chrome) -> list[str]:
    return [body.text for body in find(page, "article.assistant .text")]


def test_a_conversation(page: webdriver.Chrome, client: openai.OpenAI):
    settle(page, temperature=0, max_tokens=12, system="Be brief.")
    say(page, "Where there is smoke?")
    wait(page, lambda: answers(page) and finished(page))
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where there is smoke?"}
    ]  # fmt: skip
    first = client.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=12)
    shown = page.execute_script("return document.querySelector('article.assistant .text').textContent")
    assert shown == first.choices[0].message.content
    [facts] = find(page, "article.assistant .facts")
    assert f"{first.usage.completion_tokens} tokens" in facts.text
    assert "TTFT" in facts.text
    assert "tokens/s" in facts.text
    # The next question carries what was said before.
    say(page, "And then?")
    wait(page, lambda: len(answers(page)) == 2 and finished(page))
    messages += [{"role": "assistant", "content": shown}, {"role": "user", "content": "And then?"}]
    second = client.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=12)
    assert f"prompt {second.usage.prompt_tokens}" in find(page, "article.assistant .facts")[1].text
    # Settings are still there when the page is opened again.
    page.refresh()
    assert find(page, "#max_tokens")[0].get_attribute("value") == "12"


def test_escape_stops_an_answer_and_frees_the_model(page: webdriver.Chrome, server: str):
    settle(page, max_tokens=3900)
    # A random model may end its text at any token; this one may not.
    page.execute_script(
        "const ask = fetch; window.fetch = (url, given) => ask(url, given.body"
        " ? {...given, body: JSON.stringify({...JSON.parse(given.body), ignore_eos: true})} : given)"
    )
    find(page, "#say")[0].send_keys("Go on", Keys.SHIFT, Keys.ENTER, Keys.NULL, "and on", Keys.ENTER)
    wait(page, lambda: find(page, "#stop")[0].is_displayed() and "tokens/s" in page.page_source)
    find(page, "body")[0].send_keys(Keys.ESCAPE)
    wait(page, lambda: finished(page))
    assert "ended by you" in find(page, "article.assistant .facts")[0].text
    assert find(page, "article.user .text")[0].text == "Go on\nand on"
    wait(page, lambda: httpx.get(f"{server}/health").json()["running"] == 0)


def test_tokens_are_coloured_by_their_experts(page: webdriver.Chrome, config: ModelConfig):
    settle(page, temperature=1, max_tokens=40, experts=True)
    say(page, "Where there is smoke?")
    wait(page, lambda: answers(page) and finished(page))
    layers = config.num_hidden_layers - config.num_dense_layers
    spans = find(page, ".coloured span[data-experts]")
    chosen = [[int(expert) for expert in span.get_attribute("data-experts").split()] for span in spans]
    assert len(chosen) > 5
    assert all(len(experts) == layers and max(experts) < config.num_experts for experts in chosen)
    for layer in (0, layers - 1):
        page.execute_script(
            "const select = document.getElementById('layer'); select.value = arguments[0];"
            "select.dispatchEvent(new Event('change'))", layer,
        )  # fmt: skip
        chips = find(page, ".chip")
        legend = {chip.text.partition(":")[0]: chip.value_of_css_property("background-color") for chip in chips}
        assert set(legend) == {f"expert {experts[layer]}" for experts in chosen}
        assert len(set(legend.values())) == len(legend), "each expert has its colour"
        for span, experts in zip(spans, chosen, strict=True):
            assert span.value_of_css_property("background-color") == legend[f"expert {experts[layer]}"]
    # Turned off, the text is as before.
    settle(page, experts=False)
    assert find(page, ".coloured") == []
    assert not find(page, "#legend")[0].is_displayed()


def test_light_dark_and_a_new_chat_by_keyboard(page: webdriver.Chrome):
    colours = {}
    for theme in ("light", "dark"):
        find(page, "#theme")[0].click()
        colours[theme] = find(page, "body")[0].value_of_css_property("background-color")
        assert theme in find(page, "#theme")[0].text
    assert colours["light"] != colours["dark"]
    settle(page, max_tokens=3)
    say(page, "<img src=x onerror=alert(1)>")
    wait(page, lambda: answers(page) and finished(page))
    assert find(page, "article.user .text")[0].text == "<img src=x onerror=alert(1)>"
    find(page, "#say")[0].send_keys(Keys.ALT, "n")
    assert find(page, "article") == []
    assert page.switch_to.active_element.get_attribute("id") == "say"


def test_a_refusal_is_shown_and_the_question_taken_back(page: webdriver.Chrome):
    settle(page, max_tokens=3)
    page.execute_script("document.getElementById('say').value = 'word '.repeat(4096)")
    say(page, "!")
    wait(page, lambda: find(page, "article .error"))
    assert "at most" in find(page, "article .error")[0].text
    say(page, "Short")
    wait(page, lambda: len(answers(page)) == 2 and finished(page))
    assert "TTFT" in find(page, "article.assistant .facts")[1].text
    # The browser reports every answer of 400 as an error of the page.
    assert "400" in page.get_log("browser")[0]["message"]


def test_experts_come_with_a_stream_only(client: openai.OpenAI, config: ModelConfig):
    ask: Any = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    with pytest.raises(openai.BadRequestError, match="stream"):
        client.chat.completions.create(**ask, extra_body={"experts": True})
    plain = list(client.chat.completions.create(**ask, seed=3, stream=True))
    told = list(client.chat.completions.create(**ask, seed=3, stream=True, extra_body={"experts": True}))
    assert all("experts" not in chunk.choices[0].model_extra for chunk in plain)
    texts = ["".join(chunk.choices[0].delta.content or "" for chunk in chunks) for chunks in (plain, told)]
    assert texts[0] == texts[1], "being watched changes nothing"
    experts = [token for chunk in told for token in chunk.choices[0].model_extra.get("experts", [])]
    assert len(experts) == 8
    assert all(len(layers) == config.num_hidden_layers - config.num_dense_layers for layers in experts)

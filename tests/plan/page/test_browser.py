"""Pages in a real browser: nothing wrong, dark where dark is wanted, and no sideways scrolling on a phone."""

from typing import Any

import pytest
from selenium import webdriver


def look(browser: webdriver.Chrome, made: Any, width: int, theme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    wanted = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
    browser.get(made.html_file.as_uri())


@pytest.mark.parametrize("kind", ["training", "fleet"])
def test_a_page_is_whole_at_all_widths_and_in_both_themes(
    browser: webdriver.Chrome, kind: str, request: pytest.FixtureRequest
) -> None:
    made = request.getfixturevalue(kind)
    grounds = set()
    for width in (390, 1200):
        for theme in ("light", "dark"):
            look(browser, made, width, theme)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
            grounds.add((theme, ground))
            painted = browser.execute_script(
                "return [...document.querySelectorAll('svg rect, svg circle, svg path, .swatch')].filter(mark => {"
                " const s = getComputedStyle(mark), c = mark.matches('.swatch') ? s.backgroundColor : s.fill;"
                " return c === 'rgb(0, 0, 0)' || c === 'rgba(0, 0, 0, 0)' || c === 'none' }).length"
            )
            assert painted == 0, "marks without a colour of the page"
            assert len(browser.get_screenshot_as_png()) > 10_000
    assert len(grounds) == 2, "a ground for each theme"
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("kind", ["training", "fleet"])
def test_letters_of_charts_are_large_enough_on_a_phone(
    browser: webdriver.Chrome, kind: str, request: pytest.FixtureRequest
) -> None:
    for width in (400, 1200):
        look(browser, request.getfixturevalue(kind), width, "light")
        sizes = browser.execute_script(
            "return [...document.querySelectorAll('svg:not(.pipeline) text')].map(text => {"
            " const shown = text.getScreenCTM();"
            " return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(shown.a, shown.b) })"
        )
        assert min(sizes) >= 12, "pixels"

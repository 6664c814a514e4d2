"""The page in headless Chromium: found, clicked, typed at, in light and dark, wide and narrow."""

from __future__ import annotations

import time

import pytest
from auditing import audited, llava
from browser import browser, needed, show

from treealign.cli.page import Page, write_page
from treealign.cli.paired_trees import PairedTrees, Row
from treealign.cli.render_audit import audit_page

EVIL = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
MODULE = "model.vision_tower.vision_model"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    needed()
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, audit_page(llava(), ("old.json", "new.json")))
    return path


def find(driver, selector: str):
    return driver.find_element("css selector", selector)


def row(driver, path: str, side: str = "left"):
    return find(driver, f'#{side} .row[title="{path}"]')


def names(driver, side: str = "left") -> list[str]:
    return [one.get_attribute("title") for one in driver.find_elements("css selector", f"#{side} .row")]


def errors(driver) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser")]


def test_only_what_changed_is_open_and_nothing_fails(driver, page):
    show(driver, page)
    assert MODULE in names(driver)
    assert f"{MODULE}.encoder" not in names(driver)
    assert errors(driver) == []


def test_a_change_is_marked_by_more_than_its_colour_and_joined(driver, page):
    show(driver, page)
    assert row(driver, MODULE).find_element("css selector", ".mark").text == "↷"
    assert len(driver.find_elements("css selector", "#lines path.renamed")) == 1


def test_a_click_shows_the_evidence_of_a_match(driver, page):
    show(driver, page)
    find(driver, "#open").click()
    row(driver, f"{MODULE}.embeddings.class_embedding").click()
    said = find(driver, "#detail").text
    assert "model.vision_tower.embeddings.class_embedding" in said
    assert "certain" in said
    assert "word class" in said or "shape [1024]" in said


def test_a_twist_opens_and_closes_a_module(driver, page):
    show(driver, page)
    row(driver, MODULE).find_element("css selector", ".twist").click()
    assert f"{MODULE}.encoder" in names(driver)
    row(driver, MODULE).find_element("css selector", ".twist").click()
    assert f"{MODULE}.encoder" not in names(driver)


def test_a_search_opens_what_it_finds_and_goes_on_to_the_next(driver, page):
    show(driver, page)
    find(driver, "#search").send_keys("q_proj")
    find(driver, "#left .row.picked")
    first, hits = names(driver), find(driver, "#found").text
    assert any(name.endswith("q_proj") for name in first)
    find(driver, "#search").send_keys("\ue007")
    assert (hits, find(driver, "#found").text) == ("1 of 4", "2 of 4")


def test_the_keyboard_alone_moves_opens_and_crosses_to_the_partner(driver, page):
    show(driver, page)
    left = find(driver, "#left")
    driver.execute_script("arguments[0].focus()", left)
    left.send_keys("\ue015\ue015")  # down, down
    assert find(driver, "#left .row.active").get_attribute("title") == MODULE
    left.send_keys("\ue014")  # right: open
    assert f"{MODULE}.encoder" in names(driver)
    left.send_keys("\ue007")  # enter: to the partner
    assert find(driver, "#right .row.active").get_attribute("title") == "model.vision_tower"
    assert driver.switch_to.active_element.get_attribute("id") == "right"


def test_a_change_in_the_list_leads_to_its_place(driver, page):
    show(driver, page)
    find(driver, "#close").click()
    find(driver, f'button.show[data-show="{MODULE}"]').click()
    assert "picked" in row(driver, MODULE).get_attribute("class")


def test_the_mapping_can_be_copied(driver, page):
    show(driver, page)
    find(driver, "#copy").click()
    deadline = time.monotonic() + 10
    while find(driver, "#copied").text != "copied" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert find(driver, "#copied").text == "copied"
    assert '"vision_model"' in find(driver, "#mapping").get_attribute("textContent")


def test_a_name_that_is_markup_is_shown_and_not_run(driver, tmp_path):
    found = audited([(f"a.{EVIL}", (3,)), ("b.w", (5,))], [("b.w", (5,))])
    write_page(tmp_path / "evil.html", audit_page(found, (EVIL, EVIL)))
    show(driver, tmp_path / "evil.html")
    find(driver, "#open").click()
    shown = [one.text for one in driver.find_elements("css selector", "#left .row .name")]
    assert (EVIL in shown or any("<script>" in text for text in shown)) is True
    assert driver.title != "taken"
    assert driver.find_elements("css selector", "img") == []


def luminance(driver, selector: str, what: str) -> float:
    colour = find(driver, selector).value_of_css_property(what)
    numbers = [float(one) / 255 for one in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [n / 12.92 if n <= 0.04045 else ((n + 0.055) / 1.055) ** 2.4 for n in numbers]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_and_quiet_text_can_be_read_in_either_scheme(driver, page, scheme):
    show(driver, page, scheme)
    back = luminance(driver, "section.trees", "background-color")
    assert (back < 0.1) == (scheme == "dark")
    kinds = ["renamed", "converted", "added", "removed", "resized", "guess", "tied"]
    for selector in ["section.trees", "#found", *(f".legend .{kind}" for kind in kinds)]:
        high, low = sorted((luminance(driver, selector, "color"), back), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector


def test_a_narrow_window_shows_one_side_at_a_time_and_never_scrolls_sideways(driver, page):
    show(driver, page, size=(400, 800))
    assert (find(driver, "#left").is_displayed(), find(driver, "#right").is_displayed()) == (True, False)
    find(driver, "#side").click()
    assert (find(driver, "#left").is_displayed(), find(driver, "#right").is_displayed()) == (False, True)
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_a_hundred_thousand_open_rows_are_not_all_drawn(driver, tmp_path):
    """Nothing folds here: each leaf has a name of its own."""
    sides = []
    for _ in range(2):
        parents = [Row((f"m{i}",), number=i * 101, keys=100) for i in range(1000)]
        made = []
        for parent in parents:
            made.append(parent)
            for j in range(100):
                one = Row((parent.name, f"x{j}"), parent, note="[4]", keys=1, number=parent.number + 1 + j)
                parent.children[one.name] = one
                made.append(one)
        sides.append(tuple(made))
    for mine, theirs in zip(*sides, strict=True):
        mine.partner, theirs.partner = theirs, mine
    write_page(tmp_path / "large.html", Page("large", ("old a", "new b"), trees=PairedTrees((sides[0], sides[1]), ())))
    show(driver, tmp_path / "large.html")
    find(driver, "#open").click()
    assert find(driver, "#canvas").size["height"] == 101_000 * 26 + 8
    assert len(names(driver)) < 200
    find(driver, "#search").send_keys("m999.x99")
    assert find(driver, "#left .row.picked").get_attribute("title") == "m999.x99"
    assert len(names(driver)) < 200


@pytest.mark.parametrize(("scheme", "size"), [("light", (1400, 900)), ("dark", (400, 800))])
def test_a_lint_is_read_without_errors_and_without_running_what_it_names(driver, tmp_path, scheme, size):
    from treealign.cli.render_lint import lint_page
    from treealign.dialects.lint_checks.results import EntryReport, Finding, Lint

    finding = Finding("collision", "llava", 0, "two keys become one", ("a." * 200, EVIL), ("LlavaModel",))
    write_page(tmp_path / "lint.html", lint_page(Lint("5", (EntryReport("llava", ("r",), (), (finding,)),)), "lint"))
    show(driver, tmp_path / "lint.html", scheme, size)
    item = find(driver, ".notes li.error")
    assert (driver.title, errors(driver)) == ("lint · treealign", [])
    assert EVIL in item.text
    assert item.text.splitlines()[1:3] == ["llava[0] r", "two keys become one"]
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_a_list_that_scrolls_by_itself_is_reached_by_tab(driver, tmp_path):
    from selenium.webdriver.common.keys import Keys

    from treealign.cli.page import Note, Page, Section

    long, short = (Section(name, (Note("note", name),) * count) for name, count in (("long", 60), ("short", 2)))
    write_page(tmp_path / "lists.html", Page("lists", sections=(short, long)))
    show(driver, tmp_path / "lists.html")
    driver.switch_to.active_element.send_keys(Keys.TAB)
    assert driver.switch_to.active_element.text.splitlines()[1] == "long"

"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import csv
import shutil
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from .conftest import MOVIES

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
TEXT = "A retired hitman comes back for one last job when the mob kills his dog."
BOX = "#description textarea, #description input"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A fresh visitor; at the end nothing was asked of any other server, and no script failed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(address)
    page.wait_for_load_state("networkidle")  # what is typed while the page still opens may be lost
    yield page
    context.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert failed == []


def submit(page, text=TEXT):
    page.fill(BOX, text)
    page.press(BOX, "Enter")
    page.wait_for_selector(".mg-chips")


def bars(page):
    """Genre -> whether it is chosen, as the chart shows them."""
    rows = page.locator("#bars tbody tr").all()
    return {row.locator("th").inner_text(): "on" in row.get_attribute("class") for row in rows}


def upload(page, path):
    page.get_by_role("tab", name="Batch").click()
    page.set_input_files("#file input[type=file]", path)
    page.wait_for_selector("#file .file-preview")
    page.click("#read")


def test_a_visitor_types_presses_enter_and_sees_genres_bars_and_words(page):
    submit(page)
    chips = page.locator(".mg-chips li").all_inner_texts()
    assert chips == [genre for genre, chosen in bars(page).items() if chosen]
    assert len(bars(page)) == 18
    assert page.locator(".mg-verdict").inner_text()
    assert "hitman" in page.locator("#words").inner_text()


def test_a_text_in_another_language_is_told_to_be_in_one(page):
    submit(page, "Un tueur à gages retraité revient pour un dernier travail quand la mafia tue son chien.")
    assert "of the language that it was trained on" in page.locator(".mg-verdict").inner_text()


def test_the_frame_stands_where_it_stood_when_the_answer_arrives(page):
    page.wait_for_selector("#bars tbody tr")
    before = page.locator("#bars").bounding_box()
    submit(page, "The sheriff draws.")
    after = page.locator("#bars").bounding_box()
    assert abs(after["height"] - before["height"]) < 2
    assert abs(after["y"] - before["y"]) < 60


def test_another_profile_chooses_other_genres_at_once(page):
    submit(page)
    before = sum(bars(page).values())
    assert page.locator("#bars tr .mg-line").count() == len(bars(page))
    page.click("#options button")
    page.click("#rule input")
    page.get_by_role("option", name="the exact set").click()
    page.wait_for_function(
        "count => document.querySelectorAll('#bars tr.on').length !== count && document.querySelector('#bars tr.on')",
        arg=before,
    )
    assert sum(bars(page).values()) < before
    assert page.locator("#bars .mg-line").count() == 0  # whole sets are compared
    assert "whole sets of genres" in page.locator("#bars .mg-key").inner_text()


def test_uncertainty_draws_error_bars(page):
    submit(page)
    assert page.locator("#bars .mg-spread").count() == 0
    page.click("#options button")
    page.check("#uncertain input")
    page.wait_for_selector("#bars td .mg-spread")
    assert page.locator("#bars td .mg-spread").count() == 18
    assert "±" in page.locator("#bars").inner_text()


def test_gradients_explain_one_genre(page):
    submit(page)
    page.click("#options button")
    pooled = page.locator("#words .token").evaluate_all("words => words.map(word => word.outerHTML)")
    page.get_by_label("what speaks for one genre").check()
    best = page.locator(".mg-chips li").first.inner_text()
    page.get_by_text(f"Words that spoke for {best}, or against it").wait_for()
    explained = page.locator("#words .token").evaluate_all("words => words.map(word => word.outerHTML)")
    assert "hitman" in page.locator("#words").inner_text()
    assert len(explained) == len(pooled) > 5
    assert explained != pooled


def test_long_texts_are_explained_to_the_end(page):
    """The genre that is explained is the most probable of all windows, not of the first."""
    text = "A clown and a baker fall in love and laugh. " * 24 + "A ghost murders the family at night. " * 80
    submit(page, text)
    of_the_first = page.locator(".mg-chips li").first.inner_text()
    page.click("#options button")
    page.get_by_label("Read long texts to the end").check()
    page.get_by_label("what speaks for one genre").check()
    page.get_by_text("Words that spoke for ").wait_for()
    best = page.locator(".mg-chips li").first.inner_text()
    assert best != of_the_first
    page.get_by_text(f"Words that spoke for {best}, or against it").wait_for()


def test_a_link_reopens_the_result(page, browser):
    submit(page)
    page.click("#options button")
    page.check("#uncertain input")
    page.wait_for_selector("#bars td .mg-spread")
    page.wait_for_url("**uncertain=true**")
    shown = page.locator("#bars").inner_text()
    visitor = browser.new_page()
    visitor.goto(page.url)
    visitor.wait_for_selector("#bars td .mg-spread", timeout=60_000)
    assert visitor.input_value(BOX) == TEXT
    assert visitor.locator("#bars").inner_text() == shown
    visitor.close()


def test_the_link_is_of_the_text_that_was_read(page):
    page.fill(BOX, TEXT)
    with page.expect_request("**/queue/join*"):
        page.press(BOX, "Enter")
    page.fill(BOX, "Something else that is being typed")
    page.wait_for_url("**text=**")
    assert parse_qs(urlsplit(page.url).query)["text"] == [TEXT]


def test_the_last_answer_is_that_of_the_last_question(page):
    """An earlier question that takes longer must not have the last word."""
    page.click("#options button")
    page.check("#uncertain input")
    page.get_by_label("what speaks for one genre").check()
    submit(page, f"{TEXT} " * 20)
    page.wait_for_url("**hitman**")
    page.press(BOX, "Enter")  # again, with samples and gradients
    page.uncheck("#uncertain input")
    page.wait_for_url("**uncertain=false**")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)
    assert page.locator("#bars td .mg-spread").count() == 0


def test_the_link_is_copied_or_shown(page, address):
    page.click("#link")
    page.get_by_text("No result yet to link to").wait_for()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    submit(page)
    page.wait_for_url("**text=**")
    page.get_by_text("Copy the link to this result").click()
    page.get_by_text("The link is copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    # As where a page did not come by https.
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject() }")
    shown = []
    page.once("dialog", lambda dialog: (shown.append(dialog.default_value), dialog.dismiss()))
    page.click("#link")
    for _ in range(300):
        if not shown:
            page.wait_for_timeout(100)
    assert shown == [page.url]


def test_the_api_tab_names_the_address_where_the_page_was_found(page, address):
    page.get_by_role("tab", name="API").click()
    page.get_by_text(f"curl {address}/api/v1/predict").wait_for()
    page.get_by_text(f'client = Client("{address}")').wait_for()


def test_a_long_text_gives_no_link_and_says_where_it_was_cut(page):
    submit(page)
    page.wait_for_url("**text=**")
    submit(page, f"{TEXT} " * 60)
    page.wait_for_url(lambda url: "text=" not in url)
    page.get_by_text("No link: with its text it would be longer than 2,000").wait_for()
    assert "characters were read" in page.locator("#answer").inner_text()


def test_no_words_get_a_sentence_in_the_last_answers_place(page):
    submit(page)
    page.fill(BOX, "?!")
    page.press(BOX, "Enter")
    page.get_by_text("No answer: the description has no words").wait_for()
    assert page.locator(".mg-chips, .toast-body").count() == 0
    assert not any(bars(page).values())
    assert "hitman" not in page.locator("#words").inner_text()


def test_words_that_were_read_aloud_are_those_that_are_coloured(page):
    submit(page)
    told = page.locator("#answer .mg-unseen").inner_text().removeprefix("Words that spoke most: ").rstrip(".")
    assert len(told.split(", ")) == 5
    assert all(word in TEXT for word in told.split(", "))


def test_a_text_of_any_length_leaves_the_page_short(page):
    submit(page, f"{TEXT} " * 200)
    assert page.locator("#words").bounding_box()["height"] < 600


HOSTILE = [
    '<img src=x onerror="window.ran=1"> <b>gunman</b> rides to town at dawn for revenge',
    "<script>window.ran=1</script> a gunman rides to town",
    "</textarea><svg onload=window.ran=1> a gunman rides to town",
    '"><iframe srcdoc="<script>parent.ran=1</script>"></iframe> a gunman',
    "[a gunman](javascript:window.ran=1) ![x](x onerror=window.ran=1) rides to town",
    "{{constructor.constructor('window.ran=1')()}} ${window.ran=1} a gunman rides",
    "&lt;img src=x onerror=window.ran=1&gt; &#x3c;script&#x3e; a gunman rides",
    "\u202ea gunman rides\u202c \u2066to town\u2069 \u200f\u200b at dawn",
    "a gunman 🤠🐎🌵 rides 👨‍👩‍👧‍👦 to town \U0001f3f4\U000e0067 at dawn",
    "a gunman rides\u2028window.ran=1\u2029 to town \ufeff\u0000 at dawn",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_visitor_types_is_shown_as_text(page, hostile):
    page.on("dialog", lambda dialog: pytest.fail(f"a script said {dialog.message}"))
    submit(page, hostile)
    assert "gunman" in page.locator("#words").inner_text()
    assert page.locator("#words :is(img, script, iframe), #answer :is(img, script, iframe), #bars img").count() == 0
    assert page.evaluate("window.ran") is None
    page.reload()  # the link in the address bar brings the text back
    page.wait_for_selector(".mg-chips")
    assert page.evaluate("window.ran") is None


def test_a_hostile_file_is_shown_as_text(page, tmp_path):
    films = tmp_path / "<img src=x onerror=window.ran=1>.csv"
    with films.open("w", encoding="utf-8", newline="") as target:
        rows = [[text, "Drama", f"{text} and a widow waits"] for text in HOSTILE if "\0" not in text]
        rows += [["<script>window.ran=1</script>", "<img src=x onerror=window.ran=1>", "A gunman."], ["x", "War", ""]]
        csv.writer(target).writerows([["title", "genres", "overview", "<svg onload=window.ran=1>"]])
        csv.writer(target).writerows([*row, "<script>window.ran=1</script>"] for row in rows)
    upload(page, films)
    page.wait_for_selector("#report :is(.mg-figures, .mg-problems)")
    assert page.locator("#report :is(img, script), #preview :is(img, script), #disagreements img").count() == 0
    assert page.evaluate("window.ran") is None


def test_a_hostile_header_is_shown_as_text(page, tmp_path):
    films = tmp_path / "films.csv"
    films.write_text("<img src=//127.0.0.1:9/x onerror=window.ran=1>,b\nx,y\n", encoding="utf-8")
    upload(page, films)
    page.get_by_text("it has '<img src=//127.0.0.1:9/x onerror=window.ran=1>, b'").wait_for()
    assert page.locator(".toast-body :is(img, form, style)").count() == 0


@pytest.mark.parametrize("field", ["rule", "words", "genre", "samples", "threshold"])
@pytest.mark.parametrize("value", ["<img src=//127.0.0.1:9/x onerror=window.ran=1>", "1000", "", "2.5"])
def test_a_link_with_an_option_that_is_none_opens_with_the_usual_one(page, address, field, value):
    page.goto(f"{address}/?" + urlencode({"text": TEXT, "uncertain": "true", field: value}))
    page.wait_for_selector(".mg-chips")
    assert page.locator("img[src*='127.0.0.1:9']").count() == 0
    assert page.evaluate("window.ran") is None
    page.click("#options button")
    fields = {
        "rule": page.get_by_label("Decide for").first.input_value(),
        "words": page.locator("#words-by input:checked").get_attribute("value"),
        "genre": page.get_by_label("Genre to explain").input_value(),
        "samples": page.get_by_label("Samples").first.input_value(),
        "threshold": page.get_by_label("Threshold").first.input_value(),
    }
    usual = {"rule": "most decisions right (micro F1)", "words": "what the model looked at", "samples": "20"}
    assert fields == {**usual, "genre": "the most probable", "threshold": "0.5"}


def test_a_hundred_thousand_characters_get_a_sentence(page):
    page.fill(BOX, "gunman " * 14_286)
    page.press(BOX, "Enter")
    page.get_by_text("20,000").or_(page.get_by_text("20000")).first.wait_for()


def test_a_file_is_read_compared_downloaded_and_read_again(page, tmp_path):
    films = tmp_path / "films.csv"
    with MOVIES.open(encoding="utf-8", newline="") as source:
        lines = list(csv.reader(source))[:30]
    lines[3][0] = '=HYPERLINK("http://127.0.0.1/")'
    lines[4][0] = "<img src=x onerror=alert(1)>"
    with films.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows(lines)
    upload(page, films)
    page.wait_for_selector("#report .mg-figures")
    assert "29 films read" in page.locator("#report").inner_text()
    assert "micro F1" in page.locator("#report").inner_text()
    assert page.locator("#preview img, #disagreements img").count() == 0
    assert page.locator("#disagreements").is_visible()
    with page.expect_download() as download:
        page.click("#download")
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 29
    assert rows[2]["movie_name"] == "'" + lines[3][0]
    assert [row["description"] for row in rows] == [line[4] for line in lines[1:]]
    assert all(0 <= float(row["p_Drama"]) <= 1 for row in rows)


def test_another_files_result_is_not_this_ones(page, tmp_path):
    films = tmp_path / "films.csv"
    films.write_text(f"description\n{TEXT}\n")
    upload(page, films)
    page.get_by_text("1 films read").wait_for()
    assert page.locator("#download").is_enabled()
    assert "retired" in page.locator("#preview").inner_text()
    page.get_by_label("Clear").click()
    page.get_by_text("Nothing read yet").wait_for()
    assert page.locator("#download").is_disabled()
    assert "retired" not in page.locator("#preview").inner_text()


def test_a_broken_file_is_told_by_line(page, tmp_path):
    films = tmp_path / "broken.csv"
    films.write_text(
        'movie_name,description\nOne,A sheriff rides to town.\nTwo,\nThree,"<b>A</b>",x\n', encoding="utf-8"
    )
    upload(page, films)
    page.wait_for_selector("#report .mg-problems")
    problems = page.locator("#report .mg-problems li").all_inner_texts()
    assert sorted(problems) == [
        "broken.csv:3: description is empty",
        "broken.csv:4: 3 fields, expected 2 as in the header",
    ]


def test_a_file_without_descriptions_is_refused(page, tmp_path):
    films = tmp_path / "odd.csv"
    films.write_text("a,b\n1,2\n", encoding="utf-8")
    upload(page, films)
    page.get_by_text("odd.csv has no description column").wait_for()


def test_the_model_tab_shows_the_checkpoints_own_figures(page):
    page.get_by_role("tab", name="The model").click()
    assert "micro F1" in page.locator("#quality").inner_text()
    assert "parameters" in page.locator("#training").inner_text()


def test_the_page_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    submit(page)
    seen = []
    for tab in ("Classify", "Batch", "The model", "API"):  # those that do not fit are in a menu
        if page.get_by_role("tab", name=tab, exact=True).is_visible():
            page.get_by_role("tab", name=tab, exact=True).click()
            seen.append(tab)
        else:
            page.locator(".overflow-menu > button").click()
            page.locator(".overflow-dropdown button", has_text=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
        if tab == "The model":  # whose tables stand one below the other
            assert page.locator("#training").bounding_box()["width"] > 300
            assert page.locator("#training").bounding_box()["height"] < 1500
    assert {"Classify", "Batch"} <= set(seen)


def test_the_page_is_dark_where_the_visitor_wants_it(browser, address):
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    submit(page)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.querySelector('.mg-verdict')).color")
    page.close()
    assert brightness(background) < 60
    assert brightness(ink) > 180


def brightness(colour):
    return sum(int(part.strip(" rgba()").split(".")[0]) for part in colour.split(",")[:3]) / 3


def test_the_keyboard_suffices(page):
    page.wait_for_selector(BOX)
    page.focus(BOX)
    page.keyboard.type("A retired hitman comes back to town for revenge.")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "submit"
    page.keyboard.press("Enter")
    page.wait_for_selector(".mg-chips")

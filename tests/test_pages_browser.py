"""The web pages in a real Chromium without a window, opened from the disk."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from babble import babbling_model, write_tones
from test_pages import NASTY, utterances
from test_server_page import CHROMIUM, contrast

from asr.pages.comparison import write_comparison
from asr.pages.media import embed
from asr.pages.report import write_report
from asr.scoring.bootstrap import compare
from asr.scoring.report import score
from asr.scoring.utterances import ScoredUtterance, score_utterance
from asr.transcriber import Transcriber

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

MANY = 2_700


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


class Opened:
    """A page opened from the disk; it must not fail, nor load anything but its recordings."""

    def __init__(self, browser: "playwright.Browser", path: Path, **settings: Any) -> None:
        self.page = browser.new_page(**settings)
        self.failures: list[str] = []
        self.page.on("pageerror", lambda error: self.failures.append(str(error)))
        self.page.on("request", self._check)
        self._allowed = (path.as_uri(), "blob:", "data:")
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".row")

    def _check(self, request: "playwright.Request") -> None:
        if not request.url.startswith(self._allowed) and not request.url.endswith(".wav"):
            self.failures.append(request.url)

    def ids(self) -> list[str]:
        return self.page.locator(".row .id").all_inner_texts()

    def close(self) -> None:
        self.page.close()
        assert self.failures == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def report(folder: Path) -> Path:
    """Return a report on three recordings, the sound of two of which is embedded."""
    transcriber = Transcriber(babbling_model(), torch.device("cpu"))
    scored, transcripts = [], []
    for i, seconds in enumerate((1.0, 3.0, 2.0)):
        path = write_tones(folder / f"{i}.wav", seconds, seed=i)
        transcripts.append(transcriber.transcribe(path))
        heard = transcripts[-1].text
        reference = "X " * i + heard if i else heard
        scored.append(
            score_utterance(
                f"u{i}", reference, heard, audio=str(path), duration=seconds, speaker=f"s{i}"
            )
        )
    write_report(
        folder / "report.html",
        score(scored),
        scored,
        title="Tones",
        transcripts=transcripts,
        media=embed(scored, transcriber, 2),
        symbols=transcriber.model.tokenizer.symbols,
    )
    return folder / "report.html"


@pytest.fixture
def opened(browser: "playwright.Browser", report: Path) -> Iterator[Opened]:
    opened = Opened(browser, report)
    yield opened
    opened.close()


def wait_for(page: "playwright.Page", condition: str) -> None:
    """Wait until an expression holds; the page's own rules forbid it to evaluate texts."""
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def test_figures_are_shown(opened: Opened) -> None:
    for text in ("Tones", "Word error rate", "95 % interval", "By speaker", "Confidence"):
        assert text in opened.page.inner_text("body").replace("\u00a0", " ")
    assert opened.page.locator("#by-speaker circle").count() == 3
    assert opened.page.locator("#calibration circle").count() > 1
    assert opened.page.locator("#characters rect.confused").count() > 0


def test_the_confusion_matrix_fits_a_small_screen(
    browser: "playwright.Browser", tmp_path: Path
) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    pairs = [*zip(letters, letters[1:] + "A", strict=True), ("A", "AÉ")]
    scored = [score_utterance(f"u{i}", *pair) for i, pair in enumerate(pairs)]
    path = tmp_path / "report.html"
    write_report(path, score(scored), scored, title="letters")
    opened = Opened(browser, path, viewport={"width": 360, "height": 800})
    page = opened.page
    sizes = page.locator("#characters .tick").evaluate_all(
        "nodes => nodes.map((node) => parseFloat(getComputedStyle(node).fontSize))"
    )
    assert len(sizes) == 2 * 28 and max(sizes) < 12  # as the style sheet has it
    notes = page.locator("#characters rect.right title").all_text_contents()
    assert len(notes) == 26 and not any("NaN" in note for note in notes)  # É is in no reference
    opened.close()


def test_utterances_are_sorted_searched_and_filtered(opened: Opened) -> None:
    page = opened.page
    assert opened.ids() == ["u2", "u1", "u0"]
    page.select_option("select >> nth=1", "as in the corpus")
    assert opened.ids() == ["u0", "u1", "u2"]
    page.select_option("select >> nth=1", "longest")
    assert opened.ids() == ["u1", "u2", "u0"]
    page.fill("input[type=search]", "U1")
    assert opened.ids() == ["u1"]
    assert page.inner_text("[role=status]").replace("\u00a0", " ") == "1 of 3 utterances"
    page.fill("input[type=search]", "")
    page.select_option("select >> nth=0", "without error")
    assert opened.ids() == ["u0"]


def test_a_confusion_leads_to_its_utterances(opened: Opened) -> None:
    page = opened.page
    button = page.locator("button.confusion", has_text="X").first
    assert button.inner_text().split() == ["X", "→", "deleted"]
    button.click()
    assert set(opened.ids()) == {"u1", "u2"}
    page.click(".chip")
    assert len(opened.ids()) == 3


@pytest.mark.parametrize(
    ("figure", "chosen", "kept"),
    [("#by-speaker", "speaker s1", {"u1"}), ("#by-duration", "length 2-5 s", {"u1", "u2"})],
)
def test_a_group_is_chosen_by_keyboard(
    opened: Opened, figure: str, chosen: str, kept: set[str]
) -> None:
    choose_by_keyboard(opened.page, figure, chosen.split(" ", 1)[1])
    assert set(opened.ids()) == kept
    assert opened.page.inner_text(".chip").startswith(chosen)
    assert opened.page.inner_text("[role=status]").startswith(f"{len(kept)} of 3")


def choose_by_keyboard(page: "playwright.Page", figure: str, name: str) -> None:
    """Open the table behind a chart and press the button of that name."""
    page.focus(f"{figure} summary")
    page.keyboard.press("Enter")
    for _ in range(page.locator(f"{figure} tbody tr").count()):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == name:
            break
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    page.keyboard.press("Enter")


def test_errors_are_marked_by_more_than_colour(opened: Opened) -> None:
    pairs = opened.page.locator(".row >> nth=0 >> .pair.D")
    assert pairs.count() == 2
    assert "missed" in pairs.first.inner_text()
    style = pairs.first.evaluate("node => getComputedStyle(node).borderStyle")
    assert style == "dashed"


def test_an_opened_row_shows_and_plays_its_sound(opened: Opened) -> None:
    page = opened.page
    row = page.locator(".row", has=page.locator(".badge.media")).first
    seconds = float(row.locator(".meta").inner_text().split("·")[1].strip().split("\u00a0")[0])
    row.locator(".open").click()
    drawn = """node => new Set(
        node.getContext("2d").getImageData(0, 0, node.width, node.height).data).size > 20"""
    for canvas in row.locator("canvas").all():
        deadline = time.monotonic() + 30
        while not canvas.evaluate(drawn):
            assert time.monotonic() < deadline
    words = row.locator(".word")
    assert words.count() > 2
    lefts = [word.bounding_box()["x"] for word in words.all()]
    assert lefts == sorted(lefts)
    row.locator(".play").click()
    wait_for(page, "document.querySelector('.play.playing')")
    wait_for(page, "document.querySelector('audio').duration > 0")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(
        seconds, abs=0.1
    )
    wait_for(page, "document.querySelector('.word.now')")
    wait_for(page, "document.querySelector('audio').ended")
    assert row.locator(".playing").count() == 0


def test_opened_rows_are_painted_anew_for_another_scheme(opened: Opened) -> None:
    page = opened.page
    page.evaluate(
        """() => { window.added = 0; const { addEventListener } = MediaQueryList.prototype;
            MediaQueryList.prototype.addEventListener = function (...all) {
                window.added += 1; addEventListener.apply(this, all); }; }"""
    )
    for order in ("longest", "shortest", "most errors"):  # each of which draws all rows anew
        page.select_option("select >> nth=1", order)
        page.click(".row:has(.media) .open")
    assert page.evaluate("window.added") == 0  # such a listener would outlive its row
    wait_for(page, "document.querySelector('.lane canvas').width !== 300")  # painted
    picture = "document.querySelector('.lane canvas').toDataURL()"
    page.evaluate(f"window.light = {picture}")
    page.emulate_media(color_scheme="dark")
    wait_for(page, f"{picture} !== window.light")


def test_a_sound_that_is_sought_keeps_one_animation(opened: Opened) -> None:
    page = opened.page
    page.evaluate(
        """() => { window.times = []; const original = requestAnimationFrame;
            requestAnimationFrame = (call) => original((time) => {
                window.times.push(time); call(time); }); }"""
    )
    page.locator(".row:has(.media) .play").first.click()
    wait_for(page, "document.querySelector('.play.playing')")
    page.evaluate(
        """async () => { const audio = document.querySelector("audio");
            for (let i = 0; i < 5; i++) {
                const sought = new Promise((resolve) =>
                    audio.addEventListener("seeked", resolve, { once: true }));
                audio.currentTime = 0.1;
                await sought;
            }
            window.times = []; }"""
    )
    wait_for(page, "window.times.length > 10")
    times = page.evaluate("window.times")
    assert len(times) == len(set(times))  # one call in each frame


def test_recordings_beside_the_page_play_too(opened: Opened) -> None:
    row = opened.page.locator(".row", has_not=opened.page.locator(".badge.media"))
    row.locator(".play").click()
    wait_for(opened.page, "document.querySelector('audio').currentTime > 0.1")
    assert opened.page.evaluate("document.querySelector('audio').src").endswith(".wav")


def test_a_missing_recording_is_told(browser: "playwright.Browser", tmp_path: Path) -> None:
    scored = utterances()
    write_report(tmp_path / "report.html", score(scored), scored, title="gone")
    opened = Opened(browser, tmp_path / "report.html")
    opened.page.locator(".play").first.click()
    opened.page.wait_for_selector(".failure")
    assert "cannot play" in opened.page.inner_text(".failure")
    opened.close()


def test_everything_works_by_keyboard(opened: Opened) -> None:
    page = opened.page
    page.focus(".row:has(.media) .open")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=slider]")
    page.keyboard.press("Tab")
    if page.evaluate("document.activeElement.className") == "scroller":
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "slider"
    page.keyboard.press("ArrowRight")
    wait_for(page, "document.activeElement.getAttribute('aria-valuenow') === '1.0'")
    page.keyboard.press(" ")
    wait_for(page, "!document.querySelector('audio').paused")


def test_nasty_texts_are_shown_as_they_are(browser: "playwright.Browser", tmp_path: Path) -> None:
    scored = [score_utterance(NASTY, NASTY, "x", speaker=NASTY)]
    path = tmp_path / "report.html"
    write_report(path, score(scored), scored, title=NASTY, setting={NASTY: NASTY})
    opened = Opened(browser, path)
    opened.page.on("dialog", lambda dialog: opened.failures.append(dialog.message))
    assert opened.page.evaluate("document.querySelector('.row .id').textContent") == NASTY
    assert opened.page.evaluate("document.querySelector('h1').textContent") == NASTY
    assert opened.page.evaluate("document.scripts.length") == 2
    opened.close()


def test_thousands_of_utterances_stay_fluid(browser: "playwright.Browser", tmp_path: Path) -> None:
    words = [f"WORD{i}" for i in range(16)]
    scored = [
        score_utterance(
            f"id-{i}", " ".join(words), " ".join(words[i % 5 :]), duration=5.0, speaker=f"{i % 40}"
        )
        for i in range(MANY)
    ]
    path = tmp_path / "report.html"
    write_report(path, score(scored), scored, title="many")
    assert path.stat().st_size < 2_000_000
    opened = Opened(browser, path)
    page = opened.page
    assert page.locator(".row").count() < 100
    spent = page.evaluate(
        """() => { const start = performance.now(); const box = document.querySelector("input");
            box.value = "id-26"; box.dispatchEvent(new Event("input"));
            return performance.now() - start; }"""
    )
    assert spent < 1000  # some 20 ms on an idle machine
    assert page.inner_text("[role=status]").startswith("111 of")
    page.fill("input", "")
    for _ in range(3):
        before = page.locator(".row").count()
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        wait_for(page, f"document.querySelectorAll('.row').length > {before}")
    opened.close()


def test_two_systems_are_laid_side_by_side(browser: "playwright.Browser", tmp_path: Path) -> None:
    def system(texts: list[str]) -> list[ScoredUtterance]:
        return [
            score_utterance(f"u{i}", "A B C", text, speaker=f"s{i % 2}")
            for i, text in enumerate(texts)
        ]

    a = system(["A B C", "A X C", "A B", "X B C"])
    b = system(["A B C", "A B C", "A NEW B C", "A B X"])
    path = tmp_path / "page.html"
    write_comparison(path, compare(a, b), a, b, names=("old", "new"))
    opened = Opened(browser, path)
    page = opened.page
    for text in ("old", "new", "Difference", "paired bootstrap"):
        assert text in page.inner_text("#headline")
    assert page.locator("#by-speaker circle").count() == 4
    choose_by_keyboard(page, "#by-speaker", "s1")
    assert set(opened.ids()) == {"u1", "u3"}
    assert page.inner_text(".chip").startswith("speaker s1")
    page.click(".chip")
    page.select_option("select >> nth=0", "improved")
    assert opened.ids() == ["u1"]
    columns = page.locator(".row .triple:not(.labels)").all()
    assert [column.locator("> span").all_inner_texts() for column in columns] == [
        ["A", "A", "A"],
        ["B", "X", "B"],
        ["C", "C", "C"],
    ]
    assert page.locator(".row .fixed").all_inner_texts() == ["B"]
    page.select_option("select >> nth=0", "same count, other words")
    assert opened.ids() == ["u2", "u3"]
    page.select_option("select >> nth=0", "worsened")
    assert opened.ids() == []
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(
    browser: "playwright.Browser", report: Path, scheme: str
) -> None:
    """Contrast at least 4.5 (WCAG 2.2, 1.4.3), by the colours that the style sheet names."""
    opened = Opened(browser, report, color_scheme=scheme)
    names = "paper card ink soft accent on-accent amber red teal amber-paper red-paper teal-paper"
    colours = opened.page.evaluate(
        """(names) => { const style = getComputedStyle(document.documentElement);
            return Object.fromEntries(
                names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])); }""",
        names.split(),
    )
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(18, 18, 23)") == (scheme == "dark")
    pairs = [("ink", "paper"), ("soft", "paper"), ("on-accent", "accent")]
    pairs += [(name, "card") for name in ("ink", "soft", "accent", "amber", "red", "teal")]
    pairs += [(name, f"{name}-paper") for name in ("amber", "red", "teal")]
    pairs += [("ink", "amber-paper")]
    for one, other in pairs:
        assert contrast(colours[one], colours[other]) >= 4.5, (one, other)
    opened.close()


def test_paper_is_light_and_without_controls(browser: "playwright.Browser", report: Path) -> None:
    opened = Opened(browser, report, color_scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    ink = opened.page.evaluate("getComputedStyle(document.body).color")
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ink, paper) == ("rgb(28, 27, 34)", "rgb(255, 255, 255)")
    assert opened.page.locator(".tools").is_hidden()
    assert opened.page.locator(".alignment").first.is_visible()
    opened.close()

"""The web page, in a real Chromium without a window."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import soxr
from babble import babbling_model, write_tones
from serving import Serving, serving
from tones import SAMPLE_RATE

from asr.formats.plain import to_dict, to_txt
from asr.formats.subtitles import to_srt, to_vtt
from asr.server.limits import Limits
from asr.transcriber import Transcriber, choose_device

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
MICROPHONE_RATE = 48_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(babbling_model(), choose_device("cpu"))


@pytest.fixture(scope="module")
def server(transcriber: Transcriber) -> Iterator[Serving]:
    with serving(transcriber) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator["playwright.Browser"]:
    """Return a browser whose microphone hears tones."""
    waveform, _ = soundfile.read(write_tones(folder / "tones.wav", 4.0, seed=3))
    heard = soxr.resample(waveform, SAMPLE_RATE, MICROPHONE_RATE)
    soundfile.write(folder / "microphone.wav", heard, MICROPHONE_RATE, "PCM_16")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={folder / 'microphone.wav'}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "playwright.Browser", server: Serving) -> Iterator["playwright.Page"]:
    """Return the page; it must not fail, nor ask for anything from elsewhere."""
    page = browser.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on(
        "request",
        lambda request: (
            request.url.startswith((server.url, "blob:", "data:")) or failures.append(request.url)
        ),
    )
    page.goto(server.url)
    page.wait_for_selector("#source:not([hidden])")
    yield page
    page.close()
    assert failures == []


@pytest.fixture
def recording(folder: Path) -> Path:
    return write_tones(folder / "my speech.wav", 3.0, seed=5)


def wait_for(page: "playwright.Page", condition: str) -> None:
    """Wait until an expression holds; the page's own rules forbid it to evaluate texts."""
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def words(page: "playwright.Page") -> list[str]:
    page.wait_for_selector("#result:not([hidden])")
    return list(page.locator(".word").all_inner_texts())


def test_a_file_becomes_text_and_downloads(
    page: "playwright.Page", recording: Path, transcriber: Transcriber
) -> None:
    page.set_input_files("#file", recording)
    transcript = transcriber.transcribe(recording)
    assert words(page) == transcript.text.split()
    assert page.inner_text("#name") == "my speech.wav"
    expected = {"txt": to_txt, "srt": to_srt, "vtt": to_vtt}
    for format, render in expected.items():
        assert download(page, format) == render(transcript)
    assert json.loads(download(page, "json")) == {**to_dict(transcript), "path": recording.name}


def download(page: "playwright.Page", format: str) -> str:
    with page.expect_download() as waiting:
        page.click(f"#downloads a[data-format={format}]")
    assert waiting.value.suggested_filename == f"my speech.{format}"
    return Path(waiting.value.path()).read_text("utf-8")


def test_confidence_is_shown_by_more_than_colour(
    page: "playwright.Page", recording: Path, transcriber: Transcriber
) -> None:
    page.set_input_files("#file", recording)
    words(page)
    for node, word in zip(
        page.locator(".word").all(), transcriber.transcribe(recording).words, strict=True
    ):
        line = node.evaluate("node => getComputedStyle(node).textDecorationLine")
        assert (line == "underline") == (round(word.confidence, 3) < 0.8)
        assert node.get_attribute("title") == f"{round(100 * round(word.confidence, 3))} % sure"


def test_a_click_on_a_word_plays_it_and_words_light_up(
    page: "playwright.Page", recording: Path, transcriber: Transcriber
) -> None:
    page.set_input_files("#file", recording)
    words(page)
    last = transcriber.transcribe(recording).words[-2]
    page.locator(".word").nth(-2).click()
    wait_for(page, "document.querySelector('#transcript.playing .word.now')")
    time = page.evaluate("document.querySelector('#audio').currentTime")
    assert last.start - 0.1 <= time <= 3.0
    wait_for(page, "document.querySelector('.word:last-child.now')")
    wait_for(page, "document.querySelector('#audio').paused")


def test_everything_works_by_keyboard(page: "playwright.Page", recording: Path) -> None:
    page.on("filechooser", lambda _: None)  # from now on, lest Enter is faster than Playwright
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as waiting:
        page.keyboard.press("Enter")
    waiting.value.set_files(recording)
    count = len(words(page))
    wait_for(page, "document.activeElement.id === 'play'")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.get_attribute("#waveform", "aria-valuenow") == "3.0"
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    index = "[...document.querySelectorAll('.word')].indexOf(document.activeElement)"
    assert page.evaluate(index) == count - 1
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(index) == count - 2
    page.keyboard.press("Enter")
    wait_for(page, "!document.querySelector('#audio').paused")


def test_an_error_is_shown_kindly(page: "playwright.Page", recording: Path) -> None:
    page.set_input_files(
        "#file", files=[{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no sound"}]
    )
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#message").startswith("notes.txt: ")
    page.set_input_files("#file", recording)  # and one goes on
    assert words(page)
    assert page.is_hidden("#error")


@pytest.mark.filterwarnings("ignore::asr.errors.AudioWarning")
def test_a_recording_that_is_cut_short_is_told(
    page: "playwright.Page", recording: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "my speech.wav"
    content = recording.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    page.set_input_files("#file", cut)
    assert words(page)
    assert page.inner_text("#warning").startswith("my speech.wav: cut short")
    page.set_input_files("#file", recording)
    page.wait_for_selector("#warning", state="hidden")


def test_silence_is_told(page: "playwright.Page", folder: Path) -> None:
    soundfile.write(folder / "silence.wav", [0.0] * SAMPLE_RATE, SAMPLE_RATE)
    page.set_input_files("#file", folder / "silence.wav")
    assert words(page) == []
    assert "No speech" in page.inner_text("#transcript")


def test_the_microphone_is_heard_live(page: "playwright.Page") -> None:
    page.click("#record")
    wait_for(page, "document.querySelector('#live').innerText.trim().length > 10")
    page.click("#stop")
    assert words(page)
    assert page.inner_text("#name").startswith("recording ")


def test_a_recording_keeps_its_last_samples(page: "playwright.Page") -> None:
    """The worklet passes on 4096 samples at a time; a recording rarely ends with the last."""
    lengths = page.evaluate(
        """async () => {
            const { Recorder } = await import("/page/recorder.js");
            const lengths = [];
            for (let i = 0; i < 3; i++) {
                let heard;
                const first = new Promise((resolve) => { heard = resolve; });
                const recorder = await Recorder.start(heard);
                await first;
                lengths.push((await recorder.stop()).length);
            }
            return lengths; }"""
    )
    assert all(lengths)
    assert any(length % 4096 for length in lengths), lengths


REFUSED = """() => { const Original = WebSocket; WebSocket = class extends Original {
    constructor(address, protocols) { super(new URL("/nothing", address), protocols); } } }"""
LOST = """() => { const Original = WebSocket; WebSocket = class extends Original {
    constructor(...all) { super(...all); this.addEventListener("open", () => this.close()); } } }"""


@pytest.mark.parametrize(
    ("happens", "reason"), [(REFUSED, "did not accept"), (LOST, "connection was lost")]
)
def test_a_live_session_that_fails_is_told(
    page: "playwright.Page", happens: str, reason: str
) -> None:
    page.evaluate(happens)
    for _ in range(2):  # one can try again
        page.click("#record")
        page.wait_for_selector("#error:not([hidden])")
        assert reason in page.inner_text("#message")
        assert page.is_hidden("#live")  # it says "Speak …"
        page.wait_for_timeout(1000)
        page.click("#stop")  # what was said until then is not lost
        page.wait_for_selector("#recording", state="hidden")
        assert words(page)
        assert page.is_hidden("#error")


def test_what_ends_a_live_session_is_told(
    browser: "playwright.Browser", transcriber: Transcriber
) -> None:
    with serving(transcriber, Limits(seconds=1.0)) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.click("#record")
        page.wait_for_selector("#error:not([hidden])")
        assert "longer than the 1 s that this server takes" in page.inner_text("#message")
        page.close()


def test_a_key_is_asked_for(
    browser: "playwright.Browser", transcriber: Transcriber, recording: Path
) -> None:
    with serving(transcriber, api_key="secret") as server:
        page = browser.new_page()
        page.goto(server.url)
        for key in ("wrong", "secret"):
            page.wait_for_selector("#access:not([hidden])")
            page.fill("#key", key)
            page.keyboard.press("Enter")
        page.wait_for_selector("#source:not([hidden])")
        page.set_input_files("#file", recording)
        assert words(page)
        page.click("#record")
        wait_for(page, "document.querySelector('#live').innerText.trim().length > 10")
        page.close()


@pytest.mark.parametrize("key", ["schlüssel", "ключ", "a\tb"])
def test_a_key_that_cannot_be_sent_is_refused_by_the_page(
    browser: "playwright.Browser", transcriber: Transcriber, key: str
) -> None:
    with serving(transcriber, api_key="secret") as server:
        page = browser.new_page()
        page.goto(server.url)
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#unusable:not([hidden])")
        assert page.is_visible("#access")
        assert page.is_hidden("#error")
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#source:not([hidden])")
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_that_come_later_can_be_read(
    browser: "playwright.Browser", server: Serving, recording: Path, scheme: str
) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(server.url)
    page.set_input_files("#file", recording)
    words(page)
    page.evaluate("document.querySelector('#transcript').classList.add('playing')")
    page.evaluate("document.querySelector('.word.later').className = 'word later'")  # a sure one
    wait_for(page, "!document.getAnimations().length")  # colours change gradually
    styles = page.locator(".word.later").evaluate_all(
        """nodes => nodes.map((node) => { const { color, opacity } = getComputedStyle(node);
            return [node.className, color, opacity]; })"""
    )
    card = page.evaluate("getComputedStyle(document.querySelector('#result')).backgroundColor")
    soft = page.evaluate("getComputedStyle(document.querySelector('#summary')).color")
    page.close()
    assert len({name for name, _, _ in styles}) > 1
    for name, colour, opacity in styles:
        assert opacity == "1"
        assert contrast(in_hex(colour), in_hex(card)) >= 4.5, name
        assert (colour == soft) == (name == "word later"), name


def in_hex(colour: str) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in re.findall(r"\d+", colour))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(
    browser: "playwright.Browser", server: Serving, scheme: str
) -> None:
    """Contrast at least 4.5 (WCAG 2.2, 1.4.3), by the colours that the style sheet names."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(server.url)
    colours = page.evaluate(
        """() => Object.fromEntries(
            ["paper", "card", "ink", "soft", "accent", "on-accent", "amber", "red", "red-paper"]
                .map((name) => [name, getComputedStyle(document.documentElement)
                    .getPropertyValue(`--${name}`).trim()]))"""
    )
    page.close()
    pairs = [("ink", "paper"), ("soft", "paper"), ("on-accent", "accent"), ("red", "red-paper")]
    pairs += [(name, "card") for name in ("ink", "soft", "amber", "red")]
    for one, other in pairs:
        assert contrast(colours[one], colours[other]) >= 4.5, (one, other)


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    values = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

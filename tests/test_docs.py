"""The documentation is true: commands parse or run, Python runs, the site holds together."""

import asyncio
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import soundfile
import typer.main
from serving import serving
from test_readme import as_command, known_options

import asr
from asr.cli.main import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *ROOT.glob("[bdr]*/**/README.md"),
        *ROOT.glob("recipes/*/[RT]*S.md"),
    ]
)
MARK = "<!-- run by tests/test_docs.py -->\n"
SHELL = re.compile(rf"(?P<run>{MARK})?^```sh\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (?P<line>(?:asr|python) .*(?:(?<=\\)\n.*)*)$", re.MULTILINE)
INLINE = re.compile(r"`(?P<line>asr [^`]+)`")
run_page = runpy.run_path(str(DOCS / "make_recurrence_plots.py"))["run_page"]


def named(lines: Iterator[tuple[Path, str]]) -> list[Any]:
    """Return parameters of a test, each line once, under the name of its page."""
    first = {line: page for page, line in reversed(list(lines))}
    names = ((page.relative_to(ROOT).as_posix(), line) for line, page in first.items())
    return [pytest.param(line, id=f"{name}: {line}") for name, line in sorted(names)]


def lines_of(block: str) -> list[str]:
    """Return the commands of a shell block."""
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def lines_to_parse() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in SHELL.finditer(text):
            if not block["run"]:
                yield from ((page, line) for line in lines_of(block["body"]))
        for match in INDENTED.finditer(text):
            yield from ((page, line) for line in lines_of(match["line"]))


def blocks_to_run() -> Iterator[Any]:
    for page in PAGES:
        blocks = [
            match["body"] for match in SHELL.finditer(page.read_text("utf-8")) if match["run"]
        ]
        for number, block in enumerate(blocks, 1):
            yield pytest.param(block, id=f"{page.name} {number}")


def asr_arguments(line: str) -> list[str] | None:
    """Return what a shell line gives to ``asr``, ``None`` if it does not call it."""
    words = shlex.split(line, comments=True)
    if "asr" not in words:
        return None
    start = words.index("asr") + 1
    ends = (i for i, word in enumerate(words) if i >= start and word in ("|", ">", "&&"))
    piped = ["FILE"] if "xargs" in words[:start] else []
    return words[start : next(ends, len(words))] + piped


def find_command(arguments: list[str]) -> tuple[Any, list[str]]:
    """Return the subcommand that arguments name, and its own arguments."""
    command: Any = typer.main.get_command(app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


@pytest.mark.parametrize("line", named(lines_to_parse()))
def test_command_parses(line: str) -> None:
    arguments = asr_arguments(line)
    if arguments is not None:
        command, rest = find_command(arguments)
        try:
            command.make_context("asr", rest)  # raises what the command line would print
        except typer.Exit:
            assert {"--help", "--version"} & set(rest)
    elif re.search(r"recipes/\S+\.py", line):
        command = as_command(line)
        options = [word.partition("=")[0] for word in command[2:] if word.startswith("--")]
        assert set(options) <= known_options(*command[:2])
    for path in re.findall(r"(?:recipes|benchmarks|asr)/\S+\.(?:py|yaml|asr)", line):
        assert (ROOT / path).exists(), path


def inline_commands() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for match in INLINE.finditer(page.read_text("utf-8")):
            yield page, " ".join(match["line"].split())


@pytest.mark.parametrize("line", named(inline_commands()))
def test_inline_command_exists(line: str) -> None:
    command, rest = find_command(asr_arguments(line) or [])
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {
        word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"
    } <= known


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "data" / "samples", folder / "data" / "samples")
    (folder / "out").mkdir()
    return folder


@pytest.mark.parametrize("block", list(blocks_to_run()))
def test_commands_run(block: str, folder: Path) -> None:
    for line in lines_of(block):
        program, *arguments = shlex.split(line)
        command = [sys.executable, *(["-m", "asr"] if program == "asr" else []), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() or "--output-dir" in line


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_the_python_page_runs(here: Path) -> None:
    session = run_page(DOCS / "api" / "index.md")
    assert session["transcript"].text
    assert session["named"].decoder is not session["model"].decoder


def test_the_decoding_page_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = run_page(DOCS / "api" / "decoding.md")
    printed = capsys.readouterr().out.splitlines()
    assert 1 < len(printed) == len(session["n_best"]) <= 5
    assert all(line.endswith(h.text) for line, h in zip(printed, session["n_best"], strict=True))
    config = replace(session["bundle"].decoder, beam_width=50)
    [found] = session["decode_all"]([session["row"]], config)
    assert found == session["n_best"]


def test_the_live_client_gets_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = run_page(DOCS / "server.md")["live"]
    samples, rate = soundfile.read("data/samples/river.wav", dtype="int16")
    soundfile.write("speech.wav", samples, rate, subtype="PCM_16")
    with serving(asr.load_model(device="cpu", method="greedy")) as server:
        url = server.url.replace("http", "ws") + "/v1/audio/live"
        asyncio.run(live("speech.wav", url))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("final ") and len(last) > len("final ")


def test_other_pages_python_is_valid() -> None:
    assert callable(run_page(DOCS / "troubleshooting.md")["main"])


class Links(HTMLParser):
    """Gathers what a page of the site refers to, and the anchors it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []  # for readers to follow
        self.resources: list[str] = []  # that the page itself loads
        self.anchors: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.resources.append(values["href"])
        if "src" in values:
            self.resources.append(values["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for resource in Links(page).resources:
            assert not urlsplit(resource).netloc, (page, resource)
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text("utf-8"))


def test_links_lead_somewhere(site: Path) -> None:
    pages = {
        page.resolve(): Links(page) for page in site.rglob("*.html") if page.name != "404.html"
    }
    for page, found in pages.items():
        for link in [*found.links, *found.resources]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), (page, link)
            if parts.fragment and target in pages and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in pages[target].anchors, (page, link)


def test_formulas_and_roles_are_rendered(site: Path) -> None:
    recurrence = (site / "recurrence.html").read_text("utf-8")
    assert recurrence.count("<math") > 40
    assert recurrence.count("<mtable") == 3  # aligned lines
    assert "<mi>&</mi>" not in recurrence
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.search(r'class="arithmatex"|:(class|func|meth|mod|data):<code>', text), page


def test_all_commands_have_a_place(site: Path) -> None:
    text = (site / "commands.html").read_text("utf-8")
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f">asr {name}<" in text

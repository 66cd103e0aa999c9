"""What the site needs beyond MkDocs: the repository's own texts, formulas, and two references.

A text has one home. Pages of ``ELSEWHERE`` are files outside ``docs/``; a paragraph such as
``[Use it](../README.md#use-it) <!-- include -->`` is that section of the README on the site and
a link to it where the page is read as a file. Relative links are written for the file's place in
the repository and turned into links of the site here.
"""

import html
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

import latex2mathml.converter
import typer.main
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

from asr.cli.main import app

ROOT = Path(__file__).parents[1]
DOCS = PurePosixPath("docs")
LOG = get_plugin_logger("asr")

ELSEWHERE = {
    "your-corpus.md": "recipes/digits/README.md",
    "char-lm.md": "recipes/char_lm/README.md",
    "trials.md": "recipes/librispeech/TRIALS.md",
    "distributed.md": "recipes/distributed/README.md",
    "data.md": "data/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
SHOWN_BY = {source: page for page, source in ELSEWHERE.items()} | {
    "README.md": "index.md",
    "asr/cli/main.py": "commands.md",
    "recipes/librispeech/RESULTS.md": "results.md",
    "recipes/char_lm/RESULTS.md": "results.md",
    "recipes/digits/RESULTS.md": "results.md",
}

HEADING = re.compile(r"^(#+) +(.+?) *$", re.MULTILINE)
FENCE = re.compile(r"^(```+|~~~+).*?^\1`*$\n?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
INCLUDE = re.compile(r"^\[[^\]]*\]\(([^()\s#]+)(?:#([^()\s]+))?\) <!-- include -->$", re.MULTILINE)
DOCUMENTED = re.compile(r"^::: (\S+)$", re.MULTILINE)
FORMULA = re.compile(
    r'<(span|div|pre) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])\s*</\1>', re.DOTALL
)
ROLE = re.compile(r":(?:class|func|meth|mod|data):<code>(~?)([\w.]+)</code>")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages whose text stands elsewhere, and the reference of the command line."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    files.append(File.generated(config, "commands.md", content=command_reference()))
    icon = ROOT / "asr" / "server" / "page" / "icon.svg"
    files.append(File.generated(config, "images/icon.svg", abs_src_path=str(icon)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Put sections of other files in and make all links those of the site."""
    uri = page.file.src_uri
    source = PurePosixPath(ELSEWHERE.get(uri, DOCS / uri))
    parts = []
    end = 0
    for include in INCLUDE.finditer(markdown):
        before = markdown[end : include.start()]
        parts.append(localise(before, source, uri))
        level = len([*HEADING.finditer(outside_code(markdown[: include.start()]))][-1][1])
        other = PurePosixPath(posixpath.normpath(source.parent / include[1]))
        text = section(other, include[2], level)
        parts.append(localise(text, other, uri))
        end = include.end()
    return "".join([*parts, localise(markdown[end:], source, uri)])


def section(source: PurePosixPath, anchor: str | None, level: int) -> str:
    """Return a text without its heading, to stand below a heading of ``level``.

    Without an anchor that is the whole file, else the section up to the next heading.
    """
    text = (ROOT / source).read_text("utf-8")
    plain = outside_code(text)
    headings = list(HEADING.finditer(plain))
    if anchor is None:
        start, end, own = headings[0].end(), len(text), 1
    else:
        names = [slug(heading[2]) for heading in headings]
        if anchor not in names:
            LOG.warning(f"{source} has no section {anchor!r}")
            return ""
        i = names.index(anchor)
        start, own = headings[i].end(), len(headings[i][1])
        end = headings[i + 1].start() if i + 1 < len(headings) else len(text)
    body, plain = text[start:end], plain[start:end]
    for heading in reversed(list(HEADING.finditer(plain))):
        deeper = "#" * (level + len(heading[1]) - own)
        body = body[: heading.start()] + deeper + body[heading.end(1) :]
    return body.strip()


def outside_code(text: str) -> str:
    """Return a text of the same length in which code blocks are blank."""
    return FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def localise(text: str, source: PurePosixPath, uri: str) -> str:
    """Turn the relative links of a file into links from a page of the site."""
    parts, end = [], 0
    for block in FENCE.finditer(text):
        parts += [relink(text[end : block.start()], source, uri), block[0]]
        end = block.end()
    return "".join([*parts, relink(text[end:], source, uri)])


def relink(text: str, source: PurePosixPath, uri: str) -> str:
    """Do the same for text without code blocks."""

    def replace(link: re.Match[str]) -> str:
        image, label, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        label = relink(label, source, uri)
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(source.parent / path)
        if not (ROOT / path).exists():
            LOG.warning(f"{source}: the link to {target!r} leads nowhere")
        page = SHOWN_BY.get(path)
        if page is None and path.startswith("docs/") and not path.endswith(".py"):
            page = str(PurePosixPath(path).relative_to(DOCS))
        if page is not None:
            place = posixpath.relpath(page, posixpath.dirname(uri) or ".")
            keeps_anchors = page in ELSEWHERE or path.startswith("docs/")
            return f"{image}[{label}]({place}{'#' + anchor if anchor and keeps_anchors else ''})"
        module = path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
        return f"[{label}][{module}]" if module in documented_modules() else label

    return LINK.sub(replace, text)


def documented_modules() -> set[str]:
    """Return the modules that have a place in the Python reference."""
    pages = (ROOT / "docs" / "api").glob("*.md")
    return {name for page in pages for name in DOCUMENTED.findall(page.read_text("utf-8"))}


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:
    """Write formulas as MathML, which browsers show by themselves, and resolve Sphinx's roles."""
    return ROLE.sub(cross_reference, FORMULA.sub(formula, content))


def formula(match: re.Match[str]) -> str:
    """Return a formula as MathML."""
    display = "inline" if match[1] == "span" else "block"
    latex = html.unescape(match[2]).strip().replace("{aligned}", "{align*}")  # which it knows
    math = latex2mathml.converter.convert(latex, display=display)
    return math if display == "inline" else f'<div class="formula">{math}</div>'


def cross_reference(match: re.Match[str]) -> str:
    """Return a reference of a docstring as a link, where its target is documented."""
    short, name = match.groups()
    shown = name.rpartition(".")[2] if short else name
    return f'<autoref identifier="{name}" optional><code>{shown}</code></autoref>'


def command_reference() -> str:
    """Return what ``--help`` says of all commands, as one page."""
    command: Any = typer.main.get_command(app)
    return "# Command line\n\n" + "\n".join(
        describe(command, command.context_class(command, info_name="asr"))
    )


def describe(command: Any, context: Any) -> list[str]:
    """Return the paragraphs on a command and those below it."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {context.command_path}\n", f"{command.help}\n", f"```text\n{usage}\n```\n"]
    lines += ["| | |", "|---|---|"]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:  # a hidden option
            continue
        name, text = record
        if parameter.param_type_name == "argument":
            name = name.partition(" <")[0]
        name, text = (html.escape(part).replace("|", "&#124;") for part in (name, text))
        lines.append(f"| <code>{name}</code> | {text} |")
    lines.append("")
    for name in getattr(command, "commands", {}):
        below = command.get_command(context, name)
        lines += describe(below, below.context_class(below, info_name=name, parent=context))
    return lines

"""The README's commands work: those on the samples are run, of the others every option exists."""

import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MARK = "<!-- run by tests/test_readme.py -->\n"
BLOCK = re.compile(rf"(?P<run>{MARK})?```(?P<language>\w+)\n(?P<body>.*?)```", re.DOTALL)
BLOCKS = [match.groupdict() for match in BLOCK.finditer(README)]
LINES = [
    line for block in BLOCKS if block["language"] == "sh" for line in block["body"].split("\n")
]
RUN = [line for block in BLOCKS if block["run"] for line in block["body"].splitlines() if line]
ASR = [sys.executable, "-m", "asr"]


def as_command(line: str) -> list[str]:
    """Return the command of a README line, as this interpreter runs it."""
    words = shlex.split(line, comments=True)
    if words[0] == "asr":
        return [*ASR, *words[1:]]
    script = next(i for i, word in enumerate(words) if word.endswith(".py"))
    return [sys.executable, str(ROOT / words[script]), *words[script + 1 :]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "data" / "samples", folder / "data" / "samples")
    return folder


@pytest.mark.parametrize("line", [line for line in RUN if line.startswith("asr ")])
def test_command_runs(line, folder):
    done = subprocess.run(as_command(line), cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or "--output-dir" in line


def test_python_runs(folder):
    [code] = [block["body"] for block in BLOCKS if block["language"] == "python" and block["run"]]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


COMMANDS = [line for line in LINES if re.match(r"asr |.*recipes/\S+\.py", line) and line not in RUN]


@cache
def known_options(*command: str) -> set[str]:
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"--?[\w.][\w.-]*", done.stdout))


@pytest.mark.parametrize("line", COMMANDS)
def test_options_exist(line):
    command = as_command(line)
    start = 2 if command[:3] != ASR else 5 if command[3] == "lm" else 4
    known = known_options(*command[:start])
    for option in (word for word in command[start:] if word.startswith("-")):
        assert option in known, option


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target

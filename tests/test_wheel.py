"""The wheel: what it holds, and that it works from an empty directory."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import asr

ROOT = Path(__file__).parents[1]
MODEL = Path("asr/assets/english.asr")


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [str(argument) for argument in command]
    result = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build in a copy, so that the tree stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("asr", "tests", "recipes", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, folder / "tree" / name)
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-CMUdict"):
        shutil.copy(ROOT / name, folder / "tree")
    (folder / "tree" / "data").mkdir()
    (folder / "tree" / "data" / "corpus.py").touch()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "tree", cwd=folder)
    [path] = folder.glob("tree/dist/*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Return the ``asr`` command of a fresh environment that borrows the packages of this one."""
    home = wheel.parents[2] / "venv"
    builder = venv.EnvBuilder(symlinks=os.name != "nt", with_pip=True)
    builder.create(home)
    context = builder.ensure_directories(home)
    pip = [context.env_exe, "-m", "pip", "install", "--no-deps", "--no-index"]
    run(*pip, wheel, cwd=wheel.parent)
    # Unlike the option for system packages this borrows from a virtual environment too, and
    # leaves out what is installed in editable form there.
    borrow = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(context.env_exe, "-c", borrow, cwd=home).strip())
    lenders = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "borrowed.pth").write_text("\n".join(lenders))
    return Path(context.bin_path) / "asr"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"asr", f"asr-{asr.__version__}.dist-info"}
    assert "asr/py.typed" in names
    assert {"asr/models/ctc.py", "asr/models/native_lstm.c"} <= set(names)
    for folder in ("asr/pages/parts", "asr/server/page"):
        parts = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("*.*")}
        assert parts and parts <= set(names)
    assert (MODEL.as_posix() in names) == (ROOT / MODEL).is_file()
    for licence in ("LICENSE", "LICENSE-CMUdict"):
        assert any(name.endswith(f"licenses/{licence}") for name in names)


def test_it_runs_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "--version", cwd=tmp_path) == f"asr {asr.__version__}\n"
    assert list(tmp_path.iterdir()) == []


def test_its_model_loads_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    if not (ROOT / MODEL).is_file():
        pytest.skip(f"{MODEL} is not in this tree")
    card = run(installed, "info", cwd=tmp_path)
    assert MODEL.name in card
    assert str(ROOT) not in card

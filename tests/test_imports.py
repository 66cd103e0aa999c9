"""Importing the package: no warnings, no circles, nothing heavy where it is not needed."""

import subprocess
import sys

THIRD_PARTY = (
    "torch",
    "torchaudio",
    "lightning.pytorch.cli",
    "lightning.pytorch.loggers",
    "jiwer",
    "safetensors.torch",
    "rich.progress",
    "typer",
)
# Audio, text, corpora and scoring work before, or without, half a gigabyte of torch in memory.
LIGHT = (
    "asr.archive",
    "asr.audio",
    "asr.text",
    "asr.data.manifest",
    "asr.data.corpora",
    "asr.data.check",
    "asr.data.download",
    "asr.scoring.report",
    "asr.scoring.files",
    "asr.pages.report",
    "asr.pages.comparison",
)


def run(script: str) -> str:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_module_imports_first_and_without_warnings() -> None:
    script = f"""
import asr, importlib, pkgutil, sys, warnings
for name in {THIRD_PARTY}:
    importlib.import_module(name)
warnings.simplefilter("error")
names = [module.name for module in pkgutil.walk_packages(asr.__path__, "asr.")]
for name in ["asr", *names]:
    for loaded in [module for module in sys.modules if module.split(".")[0] == "asr"]:
        del sys.modules[loaded]
    importlib.import_module(name)
print(*names)
"""
    assert {"asr.training", "asr.cli.transcribe", "asr.models.ctc"} <= set(run(script).split())


def test_audio_text_corpora_and_scoring_do_without_torch() -> None:
    script = f"import importlib, sys\nfor name in {LIGHT}: importlib.import_module(name)\n"
    assert run(script + "print('torch' in sys.modules)") == "False\n"

"""Transcribe manifests with the best model of a run and keep references beside hypotheses.

    python recipes/librispeech/decode.py runs/mini data/manifests/dev-clean-2.jsonl

writes ``runs/mini/model.asr`` and, in ``runs/mini/decode/dev-clean-2``, ``utterances.jsonl``,
``report.json`` and ``report.html``. Results newer than model and manifest are kept, unless some
recordings could not be read. ``evaluate.py`` makes the table.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import typer

from asr.cli.evaluate import evaluate
from asr.cli.export import export
from asr.errors import AsrError, ConfigError


def main() -> int:
    """Export and decode; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("manifests", type=Path, nargs="+", help="what to transcribe")
    parser.add_argument("--device", help="cpu, cuda, ...; a GPU if there is one")
    parser.add_argument(
        "--average",
        type=int,
        default=1,
        help="mean of so many best checkpoints (default: 1); a model.asr that is there stays",
    )
    options = parser.parse_args()
    model = options.run / "model.asr"
    code = 0
    try:
        manifests = by_name(options.manifests)
        if not model.exists():
            export(options.run, model, average=options.average)
        elif not is_newer(model, *options.run.glob("checkpoints/best-*.ckpt")):
            print(
                f"{model}: older than the best checkpoints; delete it to decode them",
                file=sys.stderr,
            )
        for name, manifest in manifests.items():
            folder = options.run / "decode" / name
            if is_decoded(folder, model, manifest):
                print(f"{name}: decoded already, {folder}", file=sys.stderr)
                continue
            print(f"{name}:", file=sys.stderr)
            try:
                evaluate(manifest, model=model, output=folder, device=options.device)
            except typer.Exit as unreadable:  # recordings, each with a line of its own
                code = unreadable.exit_code
    except (AsrError, OSError) as error:
        print(f"decode: error: {error}", file=sys.stderr)
        return 1
    return code


def by_name(manifests: Iterable[Path]) -> dict[str, Path]:
    """Return manifests by what they and their results are called: file names without suffix.

    Raises:
        ConfigError: two files are called the same.
    """
    named: dict[str, Path] = {}
    for path in manifests:
        if (other := named.setdefault(path.stem, path)) != path:
            raise ConfigError(f"{other} and {path} would both be called {path.stem}; rename one")
    return named


def is_decoded(folder: Path, model: Path, manifest: Path) -> bool:
    """Tell whether a folder holds all results of a manifest by the model that is there now."""
    report = folder / "report.json"
    page = folder / "report.html"  # the last that is written
    if not (report.exists() and is_newer(page, model, manifest)):
        return False
    return not json.loads(report.read_text("utf-8")).get("failures")


def is_newer(path: Path, *sources: Path) -> bool:
    """Tell whether a file is there and newer than all those that it was made of."""
    try:
        made = path.stat().st_mtime_ns
        return all(source.stat().st_mtime_ns < made for source in sources)
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())

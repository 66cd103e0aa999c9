"""Transcribe manifests with the best model of a run and keep references beside hypotheses.

    python recipes/librispeech/decode.py runs/mini data/manifests/dev-clean-2.jsonl

writes ``runs/mini/model.asr`` and ``runs/mini/decode/dev-clean-2/{utterances.jsonl,report.json}``.
What is there already is skipped. ``evaluate.py`` makes the table.
"""

import argparse
import sys
from pathlib import Path

import typer

from asr.cli.evaluate import evaluate
from asr.cli.export import export
from asr.errors import AsrError


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
        if not model.exists():
            export(options.run, model, average=options.average)
        for manifest in options.manifests:
            folder = options.run / "decode" / manifest.stem
            if (folder / "report.json").exists():
                print(f"{manifest.stem}: decoded already, {folder}", file=sys.stderr)
                continue
            print(f"{manifest.stem}:", file=sys.stderr)
            try:
                evaluate(manifest, model=model, output=folder, device=options.device)
            except typer.Exit as unreadable:  # recordings, each with a line of its own
                code = unreadable.exit_code
    except AsrError as error:
        print(f"decode: error: {error}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())

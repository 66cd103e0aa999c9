"""The whole recipe: prepare, train, export, evaluate. Run it again to go on where it stopped.

    python recipes/digits/run.py --root data/fsdd

Each stage is a command of its own and is printed before it runs. Options that this script does
not know go to the training, for example ``--trainer.max_epochs 5``.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run the stages; leave with the exit code of the first that fails."""
    options, training_options = _parser().parse_known_args()
    manifests = options.output or options.root
    model = options.run_dir / "model.asr"
    test, result = manifests / "test.jsonl", options.run_dir / "decode" / "test"
    run(HERE / "prepare.py", "--root", options.root, "--output", manifests)
    if not model.exists():
        run(
            HERE / "train.py",
            *("--config", options.config),
            *("--run_dir", options.run_dir),
            f"--data.train={[str(manifests / 'train.jsonl')]}",
            f"--data.val={[str(manifests / 'val.jsonl')]}",
            *training_options,
        )
        run("-m", "asr", "export", options.run_dir, "--output", model)
    else:
        print(f"train: done already, {model}; delete it to train on", file=sys.stderr)
    if not is_evaluated(result, model):
        run("-m", "asr", "evaluate", test, "--model", model, "--output", result)
    print(f"the model is {model}, its results are in {result}", file=sys.stderr)


def is_evaluated(result: Path, model: Path) -> bool:
    """Tell whether a folder holds the results of all recordings by the model that is there now."""
    page = result / "report.html"  # the last that is written
    if not page.exists() or page.stat().st_mtime < model.stat().st_mtime:
        return False
    return not json.loads((result / "report.json").read_text("utf-8")).get("failures")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="where recordings are or go")
    parser.add_argument("--output", type=Path, help="where manifests go (default: the root)")
    parser.add_argument("--config", type=Path, default=HERE / "conf" / "digits.yaml")
    parser.add_argument("--run_dir", type=Path, default=Path("runs", "digits"))
    return parser


def run(*command: str | Path) -> None:
    """Run a Python command; leave with its exit code if it fails."""
    line = [sys.executable, *map(str, command)]
    print("$", subprocess.list2cmdline(line), file=sys.stderr, flush=True)
    code = subprocess.run(line).returncode
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()

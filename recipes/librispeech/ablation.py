"""Train a recipe again and again with one change each, and gather what came of it in a table.

    python recipes/librispeech/ablation.py --config recipes/librispeech/conf/mini.yaml \
        --lm lm.arpa.gz --output runs/ablation --trainer.max_epochs 12

The changes are those of ``conf/ablation.yaml``, or of another such file; ``--only`` picks some.
Options that this script does not know go to every training; where a change names one of them, the
change counts. Run it again to go on where it stopped; the table so far is ``RESULTS.md`` in the
output folder.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
import yaml
from evaluate import hardware, rate  # type: ignore[import-not-found]  # beside this file

from asr.bundle import load_bundle
from asr.cli.evaluate import evaluate
from asr.cli.export import export
from asr.data.manifest import read_manifest
from asr.errors import AsrError
from asr.lm.arpa import read_arpa_head

HERE = Path(__file__).parent
HEADER = (
    "| change | million parameters | minutes | greedy: WER % | CER % | beam: WER % | commit, seed |"
)


def main() -> int:
    """Train and score what is missing; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --model.x is an option of the training
    )
    parser.add_argument("--config", type=Path, required=True, help="the baseline's settings")
    parser.add_argument("--changes", type=Path, default=HERE / "conf" / "ablation.yaml")
    parser.add_argument("--only", nargs="+", metavar="CHANGE", help="some of the changes")
    parser.add_argument(
        "--lm", type=Path, required=True, help="n-gram model for the beam, which goes by characters"
    )
    parser.add_argument("--lm-weight", type=float, default=0.6, help="default: 0.6")
    parser.add_argument("--beam-width", type=int, default=50, help="default: 50")
    parser.add_argument("--score", type=Path, help="manifest (default: the config's validation)")
    parser.add_argument("--output", type=Path, required=True, help="where the runs go")
    options, training_options = parser.parse_known_args()
    try:
        changes: dict[str, dict[str, Any]] = yaml.safe_load(options.changes.read_text("utf-8"))
        if unknown := [name for name in options.only or [] if name not in changes]:
            parser.error(f"{options.changes} has no {unknown[0]!r}; it has {', '.join(changes)}")
        validation = yaml.safe_load(options.config.read_text("utf-8"))["data"]["val"]
        if not options.score and len(validation) > 1:
            parser.error(f"choose one by --score: {options.config} validates on {validation}")
        manifest = options.score or Path(validation[0])
        read_manifest(manifest)  # better refused now than after hours
        read_arpa_head(options.lm)
        weights = {"lm_weight": options.lm_weight, "beam_width": options.beam_width}
        for name in options.only or changes:
            run = folder(options.output, name)
            arguments = ["--config", str(options.config), "--run_dir", str(run)]
            change = [f"--{key}={value}" for key, value in changes[name].items()]
            train(run, [*arguments, *training_options, *change])
            measure(run, manifest, "greedy", decoder="greedy")
            measure(run, manifest, "beam", decoder="beam", lm=options.lm, **weights)
            write_table(options.output, list(changes))
    except (AsrError, OSError) as error:
        print(f"ablation: error: {error}", file=sys.stderr)
        return 1
    return 0


def folder(output: Path, change: str) -> Path:
    """Return where the run of a change lies."""
    return output / re.sub(r"\W+", "-", change)


def train(run: Path, arguments: list[str]) -> None:
    """Train one row unless it is done, and keep how long it took; leave if that fails."""
    if (run / "model.asr").exists():
        return
    command = [sys.executable, str(HERE / "train.py"), *arguments]
    print("$", subprocess.list2cmdline(command), file=sys.stderr, flush=True)
    clock = run / "training.json"
    before = json.loads(clock.read_text("utf-8"))["seconds"] if clock.exists() else 0.0
    start = time.perf_counter()
    try:
        code = subprocess.run(command).returncode
    finally:
        run.mkdir(parents=True, exist_ok=True)
        seconds = before + time.perf_counter() - start
        clock.write_text(json.dumps({"seconds": seconds, "commit": commit()}), "utf-8")
    if code:
        raise SystemExit(code)
    export(run, run / "model.asr")


def commit() -> str:
    """Return which state of this repository runs, as git describes it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "no git"
    except OSError:
        return "no git"


def measure(run: Path, manifest: Path, name: str, **settings: Any) -> None:
    """Score a row's model into a folder of the run, unless it is done.

    Raises:
        AsrError: a recording or the language model cannot be read.
    """
    if not (run / name / "report.json").exists():
        with suppress(typer.Exit):  # a recording cannot be read, which counts and was told
            evaluate(manifest, model=run / "model.asr", output=run / name, media=0, **settings)


def write_table(output: Path, changes: list[str]) -> None:
    """Write the rows that are there, in the order of the changes."""
    rows = [row(folder(output, name), name) for name in changes]
    table = "\n".join([HEADER, "|---" * 7 + "|", *filter(None, rows)])
    text = f"{table}\n\nMeasured on {hardware()}; 95 % intervals by bootstrap over speakers.\n"
    (output / "RESULTS.md").write_text(text, "utf-8")
    print(text, end="", flush=True)


def row(run: Path, name: str) -> str | None:
    """Return a line of the table, ``None`` while it has no figures."""
    if not (run / "beam" / "report.json").exists():
        return None
    greedy, beam = (
        json.loads((run / decoder / "report.json").read_text("utf-8"))
        for decoder in ("greedy", "beam")
    )
    size = sum(p.numel() for p in load_bundle(run / "model.asr").model.parameters()) / 1e6
    training = json.loads((run / "training.json").read_text("utf-8"))
    [config, *_] = sorted(run.glob("tensorboard/version_*/config.yaml"))
    seed = yaml.safe_load(config.read_text("utf-8"))["seed_everything"]
    return (
        f"| {name} | {size:.1f} | {training['seconds'] / 60:.0f} | {rate(greedy, 'wer')} "
        f"| {rate(greedy, 'cer')} | {rate(beam, 'wer')} | {training['commit']}, {seed} |"
    )


if __name__ == "__main__":
    sys.exit(main())

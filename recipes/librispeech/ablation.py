"""Train a recipe again and again with one change each, and gather what came of it in a table.

    python recipes/librispeech/ablation.py --config recipes/librispeech/conf/mini.yaml \
        --lm lm.klm --pronunciations asr/assets/english.asr --output runs/ablation \
        --trainer.max_epochs 12

The changes are those of ``conf/ablation.yaml``, or of another such file; ``--only`` picks some.
Options that this script does not know go to every training; where a change names one of them, the
change counts. The beam of each row has weights of its own, which ``asr lm tune`` finds on the same
manifest; with ``--pronunciations``, rows that have phones are searched by their sound. Run it again
to go on where it stopped; the table so far is ``RESULTS.md`` in the output folder. With another
language model, dictionary or manifest, what is trained is measured anew; the table has only rows
that were measured alike.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import typer
import yaml
from evaluate import hardware, rate  # type: ignore[import-not-found]  # beside this file

from asr.atomic import whole_file
from asr.bundle import load_bundle
from asr.cli.evaluate import evaluate
from asr.cli.export import export
from asr.cli.tune import tune
from asr.data.manifest import read_manifest
from asr.errors import AsrError, ConfigError
from asr.lm.word_model import WordModel
from asr.pronunciation import read_pronunciations

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
    parser.add_argument("--lm", type=Path, required=True, help="n-gram model for the beam")
    parser.add_argument(
        "--pronunciations",
        type=Path,
        help="dictionary, or a model that holds one (default: the beam goes by characters)",
    )
    parser.add_argument("--score", type=Path, help="manifest (default: the config's validation)")
    parser.add_argument("--output", type=Path, required=True, help="where the runs go")
    options, training_options = parser.parse_known_args()
    try:
        changes: dict[str, dict[str, Any]] = read_settings(options.changes)
        if unknown := [name for name in options.only or [] if name not in changes]:
            parser.error(f"{options.changes} has no {unknown[0]!r}; it has {', '.join(changes)}")
        validation = (read_settings(options.config).get("data") or {}).get("val") or []
        if not options.score and len(validation) != 1:
            parser.error(f"choose one by --score: {options.config} validates on {validation}")
        manifest = options.score or Path(validation[0])
        read_manifest(manifest)  # better refused now than after hours
        WordModel(options.lm)
        if options.pronunciations:
            read_pronunciations(options.pronunciations)
        measurements: dict[str, dict[str, Any]] = {
            "greedy": {"manifest": manifest},
            "beam": {
                "manifest": manifest,
                "lm": options.lm,
                "pronunciations": options.pronunciations,
            },
        }
        for name in options.only or changes:
            run = folder(options.output, name)
            arguments = ["--config", str(options.config), "--run_dir", str(run)]
            train(run, [*arguments, *training_options, *arguments_of(changes[name])])
            for result, settings in measurements.items():
                measure(run, result, settings)
            write_table(options.output, list(changes), measurements)
    except (AsrError, OSError) as error:
        print(f"ablation: error: {error}", file=sys.stderr)
        return 1
    return 0


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a YAML file maps names to.

    Raises:
        ConfigError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: names no settings")
    return settings


def arguments_of(change: dict[str, Any]) -> list[str]:
    """Return a change as options of the training."""
    return [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in change.items()
    ]


def folder(output: Path, change: str) -> Path:
    """Return where the run of a change lies."""
    return output / re.sub(r"\W+", "-", change)


def train(run: Path, arguments: list[str]) -> None:
    """Train one row unless it is done, and keep how long it took; leave if that fails.

    Raises:
        ConfigError: how long it took so far cannot be read.
    """
    if (run / "model.asr").exists():
        return
    command = [sys.executable, str(HERE / "train.py"), *arguments]
    print("$", subprocess.list2cmdline(command), file=sys.stderr, flush=True)
    clock = run / "training.json"
    before = read_clock(clock)[0] if clock.exists() else 0.0
    start = time.perf_counter()
    try:
        code = subprocess.run(command).returncode
    finally:
        seconds = before + time.perf_counter() - start
        with whole_file(clock) as partial:
            partial.write_text(json.dumps({"seconds": seconds, "commit": commit()}), "utf-8")
    if code:
        raise SystemExit(code)
    export(run, run / "model.asr")


def read_clock(path: Path) -> tuple[float, str]:
    """Return how many seconds a row was trained, and with which commit.

    Raises:
        ConfigError: the file is damaged.
        OSError: it cannot be read.
    """
    try:
        clock = json.loads(path.read_text("utf-8"))
        return float(clock["seconds"]), str(clock["commit"])
    except (ValueError, LookupError, TypeError) as error:
        unknown = json.dumps({"seconds": 0, "commit": "unknown"})
        raise ConfigError(
            f"{path}: is damaged; write {unknown} there to go on without the time so far"
        ) from error


def commit() -> str:
    """Return which state of this repository runs, as git describes it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "no git"
    except OSError:
        return "no git"


def measure(run: Path, name: str, settings: dict[str, Any]) -> None:
    """Score a row's model into a folder of the run, unless it is done.

    Args:
        run: folder of the row's run.
        name: of the folder.
        settings: the manifest; for a beam, which is tuned on it, the language model, and the
            dictionary if words are searched by their sound.

    Raises:
        AsrError: a recording, the language model or the dictionary cannot be read.
    """
    if is_measured(run, name, settings):
        return
    state = state_of(run, settings)  # before, lest a file changes meanwhile
    model, manifest = run / "model.asr", settings["manifest"]
    (run / name).mkdir(exist_ok=True)
    try:
        if lm := settings.get("lm"):
            has_phones = load_bundle(model).model.phone_tokenizer is not None
            sounds = settings["pronunciations"] if has_phones else None
            tuned = run / name / "model.asr"
            tune(manifest, tuned, model=model, lm=lm, pronunciations=sounds)
            evaluate(manifest, model=tuned, output=run / name, media=0)
        else:
            evaluate(manifest, model=model, output=run / name, media=0, decoder="greedy")
    except typer.Exit as unreadable:  # recordings, each with a line of its own
        raise ConfigError(
            f"{run / name}: not all was read; run again once it can be"
        ) from unreadable
    with whole_file(run / name / "settings.json") as partial:
        partial.write_text(state, "utf-8")


def is_measured(run: Path, name: str, settings: dict[str, Any]) -> bool:
    """Tell whether a row's model was scored with these settings and the files as they are now."""
    if not (run / "model.asr").exists():
        return False
    kept = run / name / "settings.json"  # the last that is written
    return kept.exists() and kept.read_text("utf-8") == state_of(run, settings)


def state_of(run: Path, settings: dict[str, Any]) -> str:
    """Return as JSON what a row's figures depend on: settings, and files by size and time."""

    def state(path: Path) -> tuple[str, int, int]:
        stat = path.stat()
        return str(path.resolve()), stat.st_size, stat.st_mtime_ns

    return json.dumps({"model": run / "model.asr", **settings}, default=state)


def write_table(output: Path, changes: list[str], measurements: dict[str, dict[str, Any]]) -> None:
    """Write the rows that were measured alike, in the order of the changes."""
    runs = {name: folder(output, name) for name in changes}
    rows = [
        row(run, name)
        for name, run in runs.items()
        if all(is_measured(run, result, settings) for result, settings in measurements.items())
    ]
    table = "\n".join([HEADER, "|---" * 7 + "|", *rows])
    text = f"{table}\n\nMeasured on {hardware()}; 95 % intervals by bootstrap.\n"
    (output / "RESULTS.md").write_text(text, "utf-8")
    print(text, end="", flush=True)


def row(run: Path, name: str) -> str:
    """Return a line of the table.

    Raises:
        ConfigError: how long the row was trained cannot be read.
    """
    greedy, beam = (
        json.loads((run / decoder / "report.json").read_text("utf-8"))
        for decoder in ("greedy", "beam")
    )
    size = sum(p.numel() for p in load_bundle(run / "model.asr").model.parameters()) / 1e6
    seconds, revision = read_clock(run / "training.json")
    configs = sorted(run.glob("*/version_*/config.yaml"))  # of a logger, if there is one
    seed = read_settings(configs[0])["seed_everything"] if configs else "unknown"
    return (
        f"| {name} | {size:.1f} | {seconds / 60:.0f} | {rate(greedy, 'wer')} "
        f"| {rate(greedy, 'cer')} | {rate(beam, 'wer')} | {revision}, {seed} |"
    )


if __name__ == "__main__":
    sys.exit(main())

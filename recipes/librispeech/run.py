"""The whole recipe: prepare, train, decode, evaluate. Run it again to go on where it stopped.

    python recipes/librispeech/run.py --config recipes/librispeech/conf/mini.yaml --root data

With ``--text novels.txt.xz`` also a trigram of the training transcripts and that text, its weights
tuned on the first validation set, and results with it, in the folder ``lm`` of the run. Each stage
is a command of its own and is printed before it runs. Options that this script does not know go to
the training, for example ``--trainer.max_epochs 8``.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml
from decode import by_name, is_newer  # type: ignore[import-not-found]  # beside this file
from prepare import SUBSETS  # type: ignore[import-not-found]

from asr.errors import ConfigError

HERE = Path(__file__).parent
TRIGRAM = ["--order", "3", "--prune", "0", "0", "1", "--vocab", "60000"]


def main() -> int:
    """Run the stages; leave with the exit code of the first that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --data is an option of the training, not short for another
    )
    parser.add_argument("--config", type=Path, required=True, help="such as conf/mini.yaml")
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="where LibriSpeech is or goes"
    )
    parser.add_argument(
        "--manifests", type=Path, default=Path("data/manifests"), help="where manifests go"
    )
    parser.add_argument("--run_dir", type=Path, help="folder of the run (default: the config's)")
    parser.add_argument("--train", nargs="+", help="training subsets (default: the config's)")
    parser.add_argument("--val", nargs="+", help="validation subsets (default: the config's)")
    parser.add_argument("--test", nargs="+", help="subsets to decode (default: as --val)")
    parser.add_argument(
        "--average",
        type=int,
        default=1,
        help="decode the mean of so many best checkpoints; a model.asr that is there stays",
    )
    parser.add_argument(
        "--text",
        type=Path,
        nargs="+",
        default=[],
        help="texts for a language model, plain, .gz or .xz (default: no language model)",
    )
    parser.add_argument(
        "--data.pronunciations",
        dest="pronunciations",
        help="how words sound; null for none (default: the config's)",
    )
    options, training_options = parser.parse_known_args()
    if not options.config.is_file():
        parser.error(f"{options.config}: no such file; give one of {HERE / 'conf'}")
    try:
        config = yaml.safe_load(options.config.read_text("utf-8"))
        data, run_dir = config["data"], options.run_dir or Path(config["run_dir"])
        manifests_of = {part: [Path(path) for path in data[part]] for part in ("train", "val")}
        named = by_name([*manifests_of["train"], *manifests_of["val"]])
    except (yaml.YAMLError, LookupError, TypeError) as error:
        parser.error(
            f"{options.config}: needs run_dir, data.train and data.val, as mini.yaml has them "
            f"({str(error).splitlines()[0]})"
        )
    except ConfigError as error:
        parser.error(f"{options.config}: {error}")
    train = options.train or [path.stem for path in manifests_of["train"]]
    val = options.val or [path.stem for path in manifests_of["val"]]
    test = options.test or val
    pronunciations = options.pronunciations or data.get("pronunciations") or "null"
    for text in options.text:
        if not text.is_file():
            parser.error(f"--text {text}: no such file")

    # What is not LibriSpeech's stays where the config says.
    stated = {name: str(path) for name, path in named.items() if name not in SUBSETS}

    def manifests(subsets: list[str]) -> list[str]:
        return [
            stated.get(subset, str(options.manifests / f"{subset}.jsonl")) for subset in subsets
        ]

    official = [subset for subset in dict.fromkeys(train + val + test) if subset in SUBSETS]
    prepare = ["--root", str(options.root), "--output", str(options.manifests)]
    if official:
        stage("prepare", *prepare, "--subsets", *official)
    if (run_dir / "model.asr").exists():
        print(
            f"train: done already, {run_dir / 'model.asr'}; delete it to train on", file=sys.stderr
        )
    else:
        stage(
            "train",
            *("--config", str(options.config)),
            *("--run_dir", str(run_dir)),
            f"--data.train={manifests(train)}",
            f"--data.val={manifests(val)}",
            f"--data.pronunciations={pronunciations}",
            *training_options,
        )
    code = results(run_dir, manifests(test), "--average", str(options.average))
    if options.text:
        texts = [*manifests(train), *map(str, options.text)]
        sounds = [] if pronunciations == "null" else ["--pronunciations", pronunciations]
        add_language_model(run_dir, texts, manifests(val)[0], sounds)
        code = results(run_dir / "lm", manifests(test)) or code
    return code


def results(run_dir: Path, manifests: list[str], *options: str) -> int:
    """Decode and make the table, even if some recordings cannot be read; return the exit code."""
    code = exit_code("decode", str(run_dir), *manifests, *options)
    stage("evaluate", str(run_dir))
    return code


def add_language_model(run_dir: Path, texts: list[str], val: str, sounds: list[str]) -> None:
    """Build a trigram of texts and fit it to the model of a run, in the folder ``lm`` there."""
    ngrams, model, plain = run_dir / "lm/lm.klm", run_dir / "lm/model.asr", run_dir / "model.asr"
    made_of = run_dir / "lm/made-of.json"
    sources = json.dumps({"texts": texts, "val": val, "sounds": sounds})
    same = made_of.exists() and made_of.read_text("utf-8") == sources
    if same and is_newer(model, plain, *map(Path, [*texts, val, *sounds[1:]])):
        print(f"language model: done already, {model}", file=sys.stderr)
        return
    ngrams.parent.mkdir(exist_ok=True)
    made_of.unlink(missing_ok=True)  # until all is of these
    stage("asr", "lm", "build", *texts, "-o", str(ngrams), *TRIGRAM)
    tune = ["lm", "tune", val, "--model", str(plain), "--lm", str(ngrams), *sounds]
    stage("asr", *tune, "-o", str(model))
    made_of.write_text(sources, "utf-8")


def stage(name: str, *arguments: str) -> None:
    """Run one stage; leave with its exit code if it fails."""
    if code := exit_code(name, *arguments):
        raise SystemExit(code)


def exit_code(name: str, *arguments: str) -> int:
    """Run ``asr`` or a script beside this one; return its exit code."""
    program = ["-m", "asr"] if name == "asr" else [str(HERE / f"{name}.py")]
    command = [sys.executable, *program, *arguments]
    print("$", subprocess.list2cmdline(command), file=sys.stderr, flush=True)
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())

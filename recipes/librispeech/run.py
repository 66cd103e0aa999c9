"""The whole recipe: prepare, train, decode, evaluate. Run it again to go on where it stopped.

    python recipes/librispeech/run.py --config recipes/librispeech/conf/mini.yaml --root data

Each stage is a command of its own and is printed before it runs. Options that this script does
not know go to the training, for example ``--trainer.max_epochs 5``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import yaml
from decode import by_name  # type: ignore[import-not-found]  # beside this file
from prepare import SUBSETS  # type: ignore[import-not-found]

from asr.errors import ConfigError

HERE = Path(__file__).parent


def main() -> int:
    """Run the stages; leave with the exit code of the first that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
    options, training_options = parser.parse_known_args()
    if not options.config.is_file():
        parser.error(f"{options.config}: no such file; give one of {HERE / 'conf'}")
    config = yaml.safe_load(options.config.read_text("utf-8"))
    if not config.get("data"):
        parser.error(f"{options.config}: no settings of a training; give one such as mini.yaml")
    train = options.train or [Path(path).stem for path in config["data"]["train"]]
    val = options.val or [Path(path).stem for path in config["data"]["val"]]
    test = options.test or val
    run_dir = options.run_dir or Path(config["run_dir"])

    # What is not LibriSpeech's stays where the config says.
    try:
        named = by_name(map(Path, config["data"]["train"] + config["data"]["val"]))
    except ConfigError as error:
        parser.error(f"{options.config}: {error}")
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
        print(f"train: done already, {run_dir / 'model.asr'}", file=sys.stderr)
    else:
        stage(
            "train",
            *("--config", str(options.config)),
            *("--run_dir", str(run_dir)),
            f"--data.train={manifests(train)}",
            f"--data.val={manifests(val)}",
            *training_options,
        )
    # The table is made even if some recordings could not be read.
    code = exit_code("decode", str(run_dir), *manifests(test), "--average", str(options.average))
    stage("evaluate", str(run_dir))
    return code


def stage(name: str, *arguments: str) -> None:
    """Run one stage; leave with its exit code if it fails."""
    if code := exit_code(name, *arguments):
        raise SystemExit(code)


def exit_code(name: str, *arguments: str) -> int:
    """Run one stage and return its exit code."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    print("$", subprocess.list2cmdline(command), file=sys.stderr, flush=True)
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())

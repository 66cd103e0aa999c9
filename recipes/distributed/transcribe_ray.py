"""Transcribe a manifest on many processes or machines, with Ray Data.

    python recipes/distributed/transcribe_ray.py data/manifests/corpus.jsonl -o out/corpus.jsonl

writes one JSON object per utterance, in the manifest's order: its id and what ``asr transcribe
--format jsonl`` says of the recording, or why it could not be read. Workers write finished parts
into ``out/corpus.jsonl.parts`` until all is done. Given again after whatever ended it, the command
goes on with what is missing. Needs ``pip install -e ".[ray]"``.
"""

import argparse
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from asr.atomic import whole_file
from asr.data.manifest import Utterance, read_manifest
from asr.errors import AsrError, ConfigError

Row = dict[str, Any]


class Worker:
    """A process that holds the model; Ray starts it anew should it die.

    Args:
        parts: folder of the results, the same for all workers.
        model: bundle; the packaged one if ``None``.
        device: where the model runs; a GPU if there is one, if ``None``.
    """

    def __init__(self, parts: Path, model: Path | None, device: str | None) -> None:
        from asr.transcriber import Transcriber

        self.parts = parts
        self.transcriber = Transcriber.load(model, device)

    def __call__(self, batch: Row) -> Row:
        """Transcribe a batch into a part of its own, whole or not at all."""
        from asr.formats.plain import to_dict

        part = self.parts / batch["part"]
        if not part.exists():  # else a worker wrote it and died before it could tell
            ids, paths = json.loads(batch["utterances"])
            results = self.transcriber.transcribe_many(paths)
            rows = [
                {"id": id, "path": path, "error": str(result)}
                if isinstance(result, AsrError)
                else {"id": id, **to_dict(result)}
                for id, path, result in zip(ids, paths, results, strict=True)
            ]
            write_rows(part, rows)
        return {"part": batch["part"]}


def transcribe(
    utterances: Sequence[Utterance],
    parts: Path,
    *,
    workers: int,
    batch: int,
    cpus: float,
    gpus: float,
    address: str | None,
    model: Path | None,
    device: str | None,
) -> None:
    """Run the workers until each utterance is in a part.

    Raises:
        ConfigError: ray is missing, or the workers died again and again.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is missing; in the project's folder: pip install -e '.[ray]'"
        ) from error
    # As many workers as were asked for start, whatever this machine has.
    local = {"num_cpus": max(1, round(workers * cpus)), "include_dashboard": False}
    try:
        ray.init(address, **({} if address else local))
    except Exception as error:  # Ray has no class of its own for this
        raise ConfigError(f"Ray does not start or answer: {error}") from error
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    run = uuid.uuid4().hex
    batches = [
        {
            "part": f"{run}-{start:09}.jsonl",
            # As JSON, since Arrow takes no file names that are not UTF-8.
            "utterances": json.dumps(_columns(utterances[start : start + batch])),
        }
        for start in range(0, len(utterances), batch)
    ]
    try:
        finished = ray.data.from_items(batches, override_num_blocks=len(batches)).map(
            Worker,
            fn_constructor_args=(parts, model and model.absolute(), device),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(batches))),
            num_cpus=cpus,
            num_gpus=gpus,
            max_task_retries=3,  # a recording that kills whoever reads it must not do so for ever
        )
        for _ in finished.iter_rows():
            pass
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"the workers failed ({reason}); what they finished is kept, run again to go on"
        ) from error
    finally:
        ray.shutdown()


def _columns(utterances: Iterable[Utterance]) -> tuple[list[str], list[str]]:
    pairs = [(utterance.id, str(utterance.audio.absolute())) for utterance in utterances]
    return [id for id, _ in pairs], [path for _, path in pairs]


def read_rows(files: Iterable[Path], utterances: Iterable[Utterance]) -> dict[str, Row]:
    """Return the rows of these recordings by id; a text takes the place of an error.

    Raises:
        ConfigError: a file holds something else.
    """
    paths = dict(zip(*_columns(utterances), strict=True))
    rows: dict[str, Row] = {}
    for file in files:
        try:
            with file.open(encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    id = row["id"]
                    if row.get("path", paths.get(id)) != paths.get(id):
                        continue  # of another recording that was called so
                    if "text" in row or id not in rows:
                        rows[id] = row
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{file}: is no result of this recipe; name another --output"
            ) from error
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line, all of them or nothing."""
    with (
        whole_file(path) as unfinished,
        unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def results_in(output: Path, parts: Path, utterances: Iterable[Utterance]) -> dict[str, Row]:
    """Return all results of these recordings so far by id."""
    return read_rows([*filter(Path.exists, [output]), *sorted(parts.glob("*.jsonl"))], utterances)


def main() -> int:
    """Transcribe what is missing; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSONL file of results")
    parser.add_argument("--workers", type=int, default=2, help="processes, each with the model")
    parser.add_argument("--batch", type=int, default=64, help="utterances in a part")
    parser.add_argument("--cpus", type=float, default=1, help="processors of each worker")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker, such as 0.5")
    parser.add_argument("--address", help="Ray cluster, such as auto; this machine if not given")
    parser.add_argument("--model", type=Path, help="model bundle; the packaged one if not given")
    parser.add_argument("--device", help="cpu, cuda, …; a GPU if there is one")
    options = parser.parse_args()
    if min(options.batch, options.workers) < 1:
        parser.error("--batch and --workers are 1 or more")
    output: Path = options.output.absolute()
    parts = output.with_name(f"{output.name}.parts")
    try:
        utterances = read_manifest(options.manifest)
        done = results_in(output, parts, utterances)
        missing = [item for item in utterances if "text" not in done.get(item.id, {})]
        say(f"{len(utterances) - len(missing)} of {len(utterances)} utterances are done already")
        if missing:
            transcribe(
                missing,
                parts,
                workers=options.workers,
                batch=options.batch,
                cpus=options.cpus,
                gpus=options.gpus,
                address=options.address,
                model=options.model,
                device=options.device,
            )
            done = results_in(output, parts, utterances)
        write_rows(output, [done[item.id] for item in utterances])
        shutil.rmtree(parts, ignore_errors=True)
    except (AsrError, OSError) as error:
        say(f"error: {error}")
        return 1
    errors = [done[item.id]["error"] for item in utterances if "error" in done[item.id]]
    for message in errors:
        say(f"error: {message}")
    return 1 if errors else 0


def say(message: str) -> None:
    """Tell people, on stderr."""
    print(f"transcribe_ray: {' '.join(message.split())}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

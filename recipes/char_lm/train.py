"""Train a character language model on text files and the texts of manifests.

    python recipes/char_lm/train.py --train '[corpus.txt, novels.txt.xz]' --val '[val.jsonl]'

The settings may stand in a YAML file (``--config``); ``--print_config`` shows all of them. The
same command goes on from the last checkpoint.
"""

from pathlib import Path

from jsonargparse import auto_cli

from asr.errors import AsrError
from asr.lm.character import CharacterModelConfig
from asr.lm.character_training import TrainingConfig, train_character_model
from asr.transcriber import choose_device


def train(
    train: list[str],
    val: list[str],
    run_dir: Path = Path("runs", "char_lm"),
    model: CharacterModelConfig = CharacterModelConfig(),  # noqa: B008 (frozen)
    training: TrainingConfig = TrainingConfig(),  # noqa: B008 (frozen)
    device: str | None = None,
    init_from: Path | None = None,
) -> None:
    """Train a character language model.

    Args:
        train: text files (plain, .gz, .xz) and manifests (.jsonl) to learn from.
        val: the same, held out.
        run_dir: folder of checkpoint.safetensors and model.safetensors.
        model: shape of the model.
        training: settings of the training.
        device: cpu, cuda, cuda:1 …; a GPU is used where there is one if not given.
        init_from: model, or bundle (.asr) with one, whose weights to start from. Its shape,
            alphabet and pieces take the place of those given.
    """
    files, held_out = map(Path, train), map(Path, val)
    train_character_model(
        list(files), list(held_out), run_dir, model, training, choose_device(device), init_from
    )


if __name__ == "__main__":
    try:
        auto_cli(train, as_positional=False)
    except AsrError as error:
        raise SystemExit(f"train: error: {error}") from error

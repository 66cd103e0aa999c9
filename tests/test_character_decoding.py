"""A character model at the command line: it rescores, searches, is tuned, travels in bundles."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from asr.archive import packaged_model
from asr.bundle import load_bundle, save_bundle
from asr.cli.main import app
from asr.data.manifest import read_manifest
from asr.decoding.config import DecoderConfig
from asr.lm.arpa import write_arpa
from asr.lm.character import CharacterModel, CharacterModelConfig, save_character_model
from asr.lm.character_training import CharacterTrainer, TrainingConfig
from asr.lm.ngram import encode_text, estimate
from asr.transcriber import Transcriber

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
MANIFEST = SAMPLES / "manifest.jsonl"
UTTERANCES = read_manifest(MANIFEST)
CLIP = SAMPLES / "river.wav"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Language models that know the samples' texts: a bigram, and a character model."""
    folder = tmp_path_factory.mktemp("models")
    texts = [utterance.text for utterance in UTTERANCES]
    ngrams = estimate(encode_text([text.split() for text in texts]), 2)
    write_arpa(folder / "bigram.arpa.gz", ngrams)
    torch.manual_seed(0)
    model = CharacterModel(CharacterModelConfig("gru", 64))
    trainer = CharacterTrainer(model, TrainingConfig(steps=120, lr=2e-2))
    while trainer.step < 120:
        trainer.train_batch(texts)
    save_character_model(folder / "char.safetensors", model)
    bundle = load_bundle(packaged_model())
    save_bundle(folder / "bare.asr", bundle.model, DecoderConfig(), bundle.card)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def right_words(transcriber: Transcriber) -> int:
    """Return how many words of the samples are words of their reference."""
    paths = [utterance.audio for utterance in UTTERANCES]
    return sum(
        word in utterance.text.split()
        for utterance, result in zip(UTTERANCES, transcriber.transcribe_many(paths), strict=True)
        for word in result.text.split()
    )


def test_fusion_finds_what_greedy_decoding_does_not(folder: Path) -> None:
    bare, char = folder / "bare.asr", folder / "char.safetensors"
    fusion = Transcriber.load(bare, character_model=char)  # has no n-grams, so no beam
    assert right_words(fusion) > right_words(Transcriber.load(bare))
    transcript = fusion.transcribe(CLIP)
    assert transcript.text.split() == [word.word for word in transcript.words]
    assert all(0 <= word.start < word.end <= transcript.duration for word in transcript.words)
    assert all(0 < word.confidence <= 1 for word in transcript.words)
    result = run("transcribe", CLIP, "-m", bare, "--char-lm", char)
    assert (result.exit_code, result.stdout) == (0, transcript.text + "\n"), result.stderr
    options = ("--decoder", "fusion", "--char-lm-weight", 0, "--char-score", 0, "--beam-width", 8)
    result = run("transcribe", CLIP, "-m", bare, "--char-lm", char, *options)
    weightless = Transcriber.load(
        bare, character_model=char, fusion_width=8, fusion_weight=0.0, fusion_score=0.0
    )
    assert result.stdout == weightless.transcribe(CLIP).text + "\n" != transcript.text + "\n"


def test_rescoring_keeps_hotwords_and_the_weights_given(folder: Path) -> None:
    bare, arpa, char = (
        folder / name for name in ("bare.asr", "bigram.arpa.gz", "char.safetensors")
    )
    options = ("-m", bare, "--lm", arpa, "--char-lm", char, "--char-lm-weight", 0.7)
    result = run("evaluate", MANIFEST, *options, "--char-score", 0.4, "--output", folder / "eval")
    assert result.exit_code == 0, result.stderr
    both = Transcriber.load(
        bare, language_model=arpa, character_model=char, char_lm_weight=0.7, char_score=0.4
    )
    texts = [both.transcribe(utterance.audio).text for utterance in UTTERANCES]
    written = (folder / "eval" / "utterances.jsonl").read_text("utf-8")
    assert all(f'"{text}"' in written for text in texts)
    favoured = Transcriber.load(
        bare,
        language_model=arpa,
        character_model=char,
        char_lm_weight=0.05,
        hotwords=["Rivar"],  # sounds like what is said
        hotword_score=40.0,
    )
    assert "RIVAR" in favoured.transcribe(CLIP).text.split()


def test_tune_stores_the_character_model_that_transcribe_uses(folder: Path, tmp_path: Path) -> None:
    start, tuned = tmp_path / "start.asr", tmp_path / "tuned.asr"
    bundle = replace(
        load_bundle(folder / "bare.asr"),
        # Too many words, and no matter which: leaves something to mend.
        decoder=DecoderConfig("beam", beam_width=20, lm_weight=0.0, word_score=10.0),
        language_model=(folder / "bigram.arpa.gz").read_bytes(),
    )
    bundle.save(start)
    char = folder / "char.safetensors"
    tuning = ("lm", "tune", MANIFEST, "--keep", "--n-best", 7, "--jobs", 1, "-o", tuned)
    result = run(*tuning, "-m", start, "--char-lm", char)
    assert result.exit_code == 0, result.stderr
    assert "chosen: char_lm_weight" in result.stdout and "beam_width" not in result.stdout
    found = load_bundle(tuned)
    assert found.character_model == char.read_bytes()
    assert found.language_model == bundle.language_model
    assert found.decoder.char_lm_weight > 0
    weights = {name: getattr(found.decoder, name) for name in ("char_lm_weight", "char_score")}
    weights["n_best"] = 7
    assert found.decoder == replace(bundle.decoder, **weights)
    by_hand = Transcriber.load(start, character_model=char, **weights)
    assert Transcriber.load(tuned).transcribe(CLIP) == by_hand.transcribe(CLIP)
    without = Transcriber.load(tuned, char_lm_weight=0.0).transcribe(CLIP)
    assert without == Transcriber.load(start).transcribe(CLIP)
    greedy = Transcriber.load(tuned, method="greedy").transcribe(CLIP)
    assert greedy == Transcriber.load(folder / "bare.asr").transcribe(CLIP)

    calibrated = tmp_path / "calibrated.asr"
    assert run("calibrate", MANIFEST, "-m", tuned, "-o", calibrated).exit_code == 0
    assert load_bundle(calibrated).character_model == found.character_model
    result = run(*tuning[:-1], tmp_path / "again.asr", "-m", start, "--char-lm", tuned)
    assert result.exit_code == 0, result.stderr
    assert load_bundle(tmp_path / "again.asr").character_model == found.character_model
    assert Transcriber.load(start, character_model=tuned, **weights).transcribe(CLIP) == (
        by_hand.transcribe(CLIP)
    )


@pytest.mark.parametrize(
    "content, message",
    [
        (b"no model", "bad: cannot read this character model"),
        ("cut", "bad: cannot read this character model"),
        ("bundle without one", "bad: holds no character model; give"),
        ("damaged bundle", "bad: cannot read this character model: Bad CRC-32"),
        (" AB", "the character model has the alphabet ' AB', the recogniser"),
    ],
)
def test_a_bad_character_model_is_one_clear_line(
    folder: Path, tmp_path: Path, content: bytes | str, message: str
) -> None:
    path = tmp_path / "bad"
    if content == "cut":
        content = (folder / "char.safetensors").read_bytes()[:-1]
    if content == "bundle without one":
        content = (folder / "bare.asr").read_bytes()
    if content == "damaged bundle":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("char_lm.safetensors", b"12345")
        content = path.read_bytes().replace(b"12345", b"12346")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save_character_model(
            path, CharacterModel(CharacterModelConfig(hidden_size=8, alphabet=content))
        )
    for command in (
        ("transcribe", CLIP, "-m", folder / "bare.asr", "--decoder", "beam"),
        ("lm", "tune", MANIFEST, "--lm", folder / "bigram.arpa.gz", "-o", tmp_path / "x.asr"),
    ):
        result = run(*command, "--char-lm", path)
        assert result.exit_code == 1 and not result.stdout
        [line] = result.stderr.splitlines()
        assert message in line


def test_a_damaged_character_model_in_a_bundle_is_told(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.asr"
    decoder = DecoderConfig("fusion")
    replace(load_bundle(folder / "bare.asr"), decoder=decoder, character_model=b"x").save(path)
    result = run("transcribe", CLIP, "-m", path)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert f"{path}: cannot read this character model" in line
    assert run("transcribe", CLIP, "-m", path, "--decoder", "greedy").exit_code == 0


@pytest.mark.parametrize("option", [("--keep",), ("--n-best", 50)])
def test_rescoring_needs_a_character_model(
    folder: Path, tmp_path: Path, option: tuple[object, ...]
) -> None:
    options = ("-m", folder / "bare.asr", "--lm", folder / "bigram.arpa.gz", *option)
    result = run("lm", "tune", MANIFEST, *options, "-o", tmp_path / "x.asr")
    assert result.exit_code == 2
    assert f"{option[0]} needs a character model" in result.stderr


def test_a_beam_that_is_kept_gets_no_other_width(folder: Path, tmp_path: Path) -> None:
    models = ("-m", folder / "bare.asr", "--lm", folder / "bigram.arpa.gz")
    options = ("--char-lm", folder / "char.safetensors", "--keep", "--beam-width", 30)
    result = run("lm", "tune", MANIFEST, *models, *options, "-o", tmp_path / "x.asr")
    assert result.exit_code == 2
    assert "leave out --beam-width" in result.stderr


def test_pieces_of_words_rescore_but_do_not_search(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pieces.safetensors"
    config = CharacterModelConfig(hidden_size=8, pieces=(" THE", "ED"), embedding_size=4)
    torch.manual_seed(0)
    save_character_model(path, CharacterModel(config))
    options = ("transcribe", CLIP, "-m", folder / "bare.asr", "--char-lm", path)
    result = run(*options, "--decoder", "fusion")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert "this character model reads pieces of words" in line
    result = run(*options, "--lm", folder / "bigram.arpa.gz", "--char-lm-weight", 0.5)
    assert result.exit_code == 0 and result.stdout.strip()


def test_settings_of_a_search_by_characters_are_not_kept_for_one_by_sound(
    folder: Path, tmp_path: Path
) -> None:
    models = ("-m", folder / "bare.asr", "--lm", folder / "bigram.arpa.gz")
    options = ("--char-lm", folder / "char.safetensors", "--pronunciations", packaged_model())
    result = run("lm", "tune", MANIFEST, *models, *options, "--keep", "-o", tmp_path / "x.asr")
    assert result.exit_code == 2
    assert "--keep would keep the settings of a search without" in result.stderr

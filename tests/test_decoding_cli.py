"""Language models at the command line: decode, tune, calibrate, and what goes wrong."""

import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from babble import babbler_in_phones, babbling_model, write_tones
from tones import SAMPLE_RATE
from typer.testing import CliRunner

from asr.archive import packaged_model
from asr.bundle import load_bundle, save_bundle
from asr.cli.main import app
from asr.cli.options import _hotwords
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.decoding.beam import BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.decoding.pool import DecoderPool
from asr.errors import ConfigError, LanguageModelError
from asr.lm.arpa import write_arpa
from asr.lm.lexicon import read_lexicon
from asr.lm.ngram import encode_text, estimate
from asr.lm.word_model import WordModel
from asr.streaming import Stream
from asr.text import CharTokenizer
from asr.transcriber import Transcriber

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
MANIFEST = next(SAMPLES.glob("*.jsonl"))
CLIP = SAMPLES / "river.wav"


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bigram of the samples' own texts, which makes recognition easy."""
    path = tmp_path_factory.mktemp("lm") / "samples.arpa.gz"
    sentences = [utterance.text.split() for utterance in read_manifest(MANIFEST)]
    write_arpa(path, estimate(encode_text(sentences), 2))
    return path


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "asr", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_a_language_model_helps_and_its_scores_are_used(arpa: Path) -> None:
    clip = read_manifest(MANIFEST)[0]
    greedy = Transcriber.load(method="greedy").transcribe(clip.audio)
    beam = Transcriber.load(language_model=arpa, lm_weight=1.0).transcribe(clip.audio)
    closed = set(clip.text.split())
    right = [word in closed for word in beam.text.split()]
    assert sum(right) > sum(word in closed for word in greedy.text.split())
    assert all(0 <= word.start < word.end <= beam.duration for word in beam.words)
    assert 0 < beam.confidence < 1


def test_tune_stores_settings_and_language_model_that_transcribe_uses(
    arpa: Path, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned.asr"
    manifest = tmp_path / r"$\frac$.jsonl"  # no formula, although it looks like one in the title
    write_manifest(manifest, read_manifest(MANIFEST))
    result = run(
        "lm", "tune", manifest, "--lm", arpa, "-o", tuned, "--plot", tmp_path / "w.png", "--jobs", 1
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("WER") >= 30 and "chosen: lm_weight" in result.stdout
    assert (tmp_path / "w.png").read_bytes().startswith(b"\x89PNG")
    bundle = load_bundle(tuned)
    assert bundle.decoder.method == "beam"
    assert f"chosen: lm_weight {bundle.decoder.lm_weight:g}," in result.stdout
    assert bundle.language_model == arpa.read_bytes()
    by_hand = Transcriber.load(
        packaged_model(), language_model=arpa, **dataclasses.asdict(bundle.decoder)
    )
    assert Transcriber.load(tuned).transcribe(CLIP) == by_hand.transcribe(CLIP)
    greedy = Transcriber.load(tuned, method="greedy").transcribe(CLIP)
    assert greedy == Transcriber.load(packaged_model(), method="greedy").transcribe(CLIP)

    # Tuned on the samples, it makes no error there; calibration needs some.
    first, *others = read_manifest(MANIFEST)
    wrong = f"{first.text.rsplit(' ', 1)[0]} MISTAKEN"
    misread = tmp_path / "misread.jsonl"
    write_manifest(misread, [dataclasses.replace(first, text=wrong), *others])
    calibrated = tmp_path / "calibrated.asr"
    result = run("calibrate", misread, "-m", tuned, "-o", calibrated, "--plot", tmp_path / "c.png")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("expected calibration error") == 2
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    settings = load_bundle(calibrated)
    assert settings.language_model == arpa.read_bytes()
    assert settings.decoder.confidence_scale != 1.0
    words = Transcriber.load(calibrated).transcribe(CLIP).words
    raw = Transcriber.load(tuned).transcribe(CLIP).words
    assert [word.word for word in words] == [word.word for word in raw]
    assert [word.confidence for word in words] != [word.confidence for word in raw]
    # Those of another method were not judged.
    greedy = Transcriber.load(calibrated, method="greedy").transcribe(CLIP)
    assert greedy == Transcriber.load(tuned, method="greedy").transcribe(CLIP)


def test_processes_find_what_one_finds(arpa: Path) -> None:
    tokenizer = CharTokenizer()
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.randn(frames, len(tokenizer), generator=generator).log_softmax(1).numpy()
        for frames in (5, 0, 30, *([7] * 40))
    ]
    config = DecoderConfig("beam", 20, lm_weight=0.3)
    decoder = BeamDecoder(tokenizer, config, WordModel(arpa), n_best=3)
    expected = [
        decoder.decode(torch.from_numpy(row)[None], torch.tensor([len(row)]))[0] for row in rows
    ]
    done: list[int] = []
    with DecoderPool(tokenizer.alphabet, arpa, jobs=2) as pool:
        assert pool.decode(rows, config, done.append, n_best=3) == expected
        assert pool.decode(rows, config) == [n_best[:1] for n_best in expected]
        other = DecoderConfig("beam", 20, lm_weight=2.0)
        assert pool.decode(rows, other, n_best=3) != expected
    assert sum(done) == len(rows)


def test_a_pool_says_what_is_wrong_with_its_models(arpa: Path, tmp_path: Path) -> None:
    bad = tmp_path / "cut.arpa.gz"
    bad.write_bytes(arpa.read_bytes()[:-20])
    with pytest.raises(LanguageModelError, match=r"cut.arpa.gz: .*; build or fetch it anew"):
        DecoderPool(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ", bad)
    with pytest.raises(LanguageModelError, match="lexicon word '5' cannot be spelled"):
        DecoderPool(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ", arpa, ["5"])


INTERRUPTED = """
import sys, time
import numpy as np
from asr.decoding.config import DecoderConfig
from asr.decoding.pool import DecoderPool

rows = [np.full((1000, 29), np.log(1 / 29), np.float32)] * 3200
try:
    with DecoderPool(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ", sys.argv[1], jobs=2) as pool:
        pool.decode(rows[:1], DecoderConfig("beam", 10))
        print("ready", flush=True)
        pool.decode(rows, DecoderConfig("beam", 500))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a group")
def test_ctrl_c_ends_a_pool_quietly(arpa: Path, tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("wb+") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, arpa],
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        with process:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            time.sleep(1.0)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=60) == 130
        stderr.seek(0)
        assert stderr.read() == b""


def write_manifest_of(path: Path, texts: dict[str, str]) -> Path:
    lines = [
        {"id": name, "audio_filepath": str(SAMPLES / name), "duration": 4, "text": text}
        for name, text in texts.items()
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_references_are_normalised_and_unreadable_recordings_left_out(
    arpa: Path, tmp_path: Path
) -> None:
    """Texts as a corpus has them, with small letters and commas, give the same settings."""
    names = ("river.wav", "carriage.wav", "letter.flac", "clock.ogg")
    texts = {u.audio.name: u.text for u in read_manifest(MANIFEST) if u.audio.name in names}
    texts["river.wav"] = f"{texts['river.wav'].rsplit(' ', 1)[0]} mistaken"  # or none is wrong
    plain = write_manifest_of(tmp_path / "plain.jsonl", texts)
    as_written = {name: text.capitalize() + "." for name, text in texts.items()}
    other = write_manifest_of(tmp_path / "other.jsonl", as_written | {"gone.wav": "Hello"})
    told = {}
    for manifest, code in ((plain, 0), (other, 1)):
        output = manifest.with_suffix(".asr")
        result = run("lm", "tune", manifest, "--lm", arpa, "-o", output, "--jobs", 1)
        assert result.returncode == code
        assert ("gone.wav: no such file" in result.stderr) == code
        rates = re.findall(r"WER +([0-9.]+)%", result.stdout)
        told[code] = (rates, load_bundle(output).decoder)
        result = run("calibrate", manifest, "-m", output, "-o", manifest.with_suffix(".2.asr"))
        assert result.returncode == code, result.stderr
        told[code] += (load_bundle(manifest.with_suffix(".2.asr")).decoder,)
    assert told[0] == told[1]


def test_what_keeps_tuning_and_calibration_from_working_is_told_at_once(
    arpa: Path, tmp_path: Path
) -> None:
    silent = write_manifest_of(tmp_path / "silent.jsonl", {"river.wav": "..."})
    gone = write_manifest_of(tmp_path / "gone.jsonl", {"gone.wav": "HELLO"})
    words = tmp_path / "words.txt"
    words.write_text("1842\n", encoding="utf-8")
    cut = tmp_path / "cut.arpa.gz"
    cut.write_bytes(arpa.read_bytes()[:-20])
    output = tmp_path / "x.asr"
    tune = ("lm", "tune", "-o", output, "--jobs", 1, "--lm")
    calibrate = ("calibrate", "-o", output)
    for command, message in (
        ((*tune, arpa, silent), "silent.jsonl: no recording with a text"),
        ((*tune, arpa, gone), "gone.jsonl: no recording with a text"),
        ((*tune, arpa, MANIFEST, "--lexicon", words), "words.txt: word '1842' cannot be spelled"),
        ((*tune, arpa, MANIFEST, "--plot", "x.xyz"), "x.xyz: cannot draw this kind of picture"),
        ((*tune, arpa, MANIFEST, "--plot", "x.pgf"), "x.pgf: cannot draw this kind of picture"),
        ((*tune, arpa, MANIFEST, "-o", tmp_path), "is a folder; name a file to write"),
        ((*tune, cut, MANIFEST), "cut.arpa.gz: KenLM cannot read this model"),
        ((*tune, tmp_path / "no.arpa", MANIFEST), "no.arpa: cannot read this language model"),
        ((*calibrate, silent), "too little was recognised to calibrate on"),
        ((*calibrate, gone), "gone.jsonl: too little was recognised"),
        ((*calibrate, MANIFEST, "--plot", "x.xyz"), "x.xyz: cannot draw this kind of picture"),
        ((*calibrate, MANIFEST, "-o", tmp_path), "is a folder; name a file to write"),
    ):
        result = CliRunner().invoke(app, list(map(str, command)))
        assert (result.exit_code, result.stdout) == (1, ""), result.stdout
        assert message in result.stderr.splitlines()[-1]
        assert result.stderr.count("\n") == (2 if gone in command else 1)
    assert not output.exists()


def test_whole_recordings_give_the_same_log_probs_alone_and_together() -> None:
    transcriber = Transcriber.load(method="greedy")
    paths = [utterance.audio for utterance in read_manifest(MANIFEST)][:3]
    together = transcriber.log_probs_of(paths)
    for path, row in zip(paths, together, strict=True):
        [alone] = transcriber.log_probs_of([path])
        assert isinstance(row, np.ndarray) and isinstance(alone, np.ndarray)
        np.testing.assert_allclose(row, alone, atol=1e-3)


def test_a_lexicon_is_the_first_column_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("THE\tDH AH0\nTHE DH IY0\n\nCAT K AE T\n", encoding="utf-8")
    assert read_lexicon(path) == ["THE", "CAT"]
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(LanguageModelError, match="no word"):
        read_lexicon(path)
    with pytest.raises(LanguageModelError, match="cannot read"):
        read_lexicon(tmp_path / "none.txt")
    path.write_text("THE\nthe\n", encoding="utf-8")
    with pytest.raises(LanguageModelError, match=r"lexicon.txt: word 'the' cannot be spelled"):
        read_lexicon(path)
    assert read_lexicon(path, "THEthe") == ["THE", "the"]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot read this language model"),
        ("no ARPA", "is no whole ARPA file"),
        (
            "\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1 <unk>\n-1 the -1\n-1 </s>\n",
            "alphabet",
        ),
        (
            "\\data\\\nngram 1=2\nngram 2=1\n\n\\1-grams:\n-1 <unk>\n-1 THE -1\n",
            "KenLM cannot read",
        ),
    ],
)
def test_a_bad_language_model_is_one_clear_line(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "bad.arpa"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    result = run("transcribe", CLIP, "--lm", path)
    assert result.returncode == 1 and not result.stdout
    [line] = result.stderr.splitlines()
    assert str(path) in line and message in line


@pytest.mark.parametrize(
    "options, message",
    [
        (["--hotwords", "Avonlea"], "hotwords need a language model"),
        (["--hotwords", "@nowhere.txt"], "nowhere.txt: cannot read these hotwords"),
        (["--decoder", "greedy", "--hotwords", "A"], "greedy decoding takes no"),
        (["--decoder", "greedy", "--char-lm", "nowhere"], "greedy decoding takes no"),
        (["--beam-width", "9"], "greedy decoding has no beam_width; decode with a beam"),
        (["--decoder", "fusion", "--hotwords", "A"], "fusion takes no n-grams, lexicon or"),
        (["--decoder", "fusion"], "fusion needs a character model; give one with --char-lm"),
        (["--decoder", "fusion", "--lm-weight", "2"], "fusion decoding has no lm_weight"),
        (["--char-lm", "nowhere"], "nowhere: cannot read this character model: no such file"),
        (["--lexicon", "nowhere.txt"], "nowhere.txt: cannot read this lexicon"),
        (["--lm-weight", "nan"], "lm_weight nan is not finite"),
        (["--hotwords", " , "], "names no word"),
        (["--decoder", "beam", "--lm-weight", "2"], "without a language model has no lm_weight"),
        (["--decoder", "beam", "--char-score", "2"], "a character model has no char_score"),
    ],
)
def test_contradictory_options_are_one_clear_line(
    tmp_path: Path, options: list[str], message: str
) -> None:
    bare = tmp_path / "bare.asr"
    bundle = load_bundle(packaged_model())
    save_bundle(bare, bundle.model, DecoderConfig(), bundle.card)
    result = run("transcribe", CLIP, "-m", bare, *options)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hotword_score", "without hotwords has no hotword_score"),
        ("unknown_score", "that searches by sound has no unknown_score"),
    ],
)
def test_a_setting_that_the_packaged_model_does_not_use_is_refused(
    setting: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Transcriber.load(packaged_model(), "cpu", **{setting: 1.0})


def test_hotwords_from_a_file_and_from_the_command_line(arpa: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("Avonlea\nGreen Gables\n", encoding="utf-8")
    from_file = run("transcribe", CLIP, "--lm", arpa, "--hotwords", f"@{words}")
    given = run("transcribe", CLIP, "--lm", arpa, "--hotwords", "Avonlea, Green Gables")
    assert from_file.returncode == given.returncode == 0
    assert from_file.stdout == given.stdout != ""
    phrases = ["Avonlea", "Green Gables"]
    assert _hotwords(f"@{words}") == _hotwords(" Avonlea,Green Gables, ") == phrases


def test_a_model_without_language_model_cannot_be_tuned(tmp_path: Path) -> None:
    bare = tmp_path / "bare.asr"
    bundle = load_bundle(packaged_model())
    save_bundle(bare, bundle.model, DecoderConfig(), bundle.card)
    result = run("lm", "tune", MANIFEST, "-m", bare, "-o", tmp_path / "x.asr")
    assert result.returncode == 1
    assert "holds no language model; give one with --lm" in result.stderr
    assert not (tmp_path / "x.asr").exists()


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifest, words, bigram, two models of the same letters and a dictionary of some words."""
    folder = tmp_path_factory.mktemp("tones")
    words = ["".join(w) for n in (1, 2, 3) for w in itertools.product("ABCDEF", repeat=n)]
    texts = {f"{i}.wav": " ".join(words[i::60][:3]) for i in range(6)}
    for i, name in enumerate(texts):
        write_tones(folder / name, 2.0, seed=i)
    write_manifest(
        folder / "m.jsonl",
        [Utterance(name, folder / name, 2.0, text, "babbler") for name, text in texts.items()],
    )
    write_arpa(folder / "lm.arpa.gz", estimate(encode_text([[word] for word in words]), 2))
    save_bundle(folder / "phones.asr", babbler_in_phones(), DecoderConfig(), "# Card")
    save_bundle(folder / "letters.asr", babbling_model(), DecoderConfig(), "# Card")
    known = [word for word in words if word != "FAD"]
    (folder / "words.dict").write_text(
        "".join(f"{word} {' '.join(letter * 2 for letter in word)}\n" for word in known)
    )
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def in_phones(tones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle tuned with a dictionary that lacks a word, which a network pronounces."""
    folder = tmp_path_factory.mktemp("tuned")
    packed, tuned = folder / "words.safetensors", folder / "tuned.asr"
    shape = ("--hidden-size", 24, "--num-layers", 1, "--epochs", 60)
    result = run("lm", "pronounce", tones["words.dict"], "-o", packed, *shape)
    assert result.returncode == 0, result.stderr
    last = result.stderr.splitlines()[-1]
    assert "257 words, 6 phones; of 6 words that the network did not read 0.0% are" in last
    models = ("-m", tones["phones.asr"], "--lm", tones["lm.arpa.gz"], "--pronunciations", packed)
    result = run("lm", "tune", tones["m.jsonl"], *models, "-o", tuned, "--jobs", 1)
    assert result.returncode == 0, result.stderr
    assert "258 of 258 words have a pronunciation" in result.stdout
    assert "unknown_score -2 " not in result.stdout
    return tuned


def test_words_searched_by_their_sound_are_found(
    tones: dict[str, Path], in_phones: Path, tmp_path: Path
) -> None:
    """The phones here are the letters, so that both searches find the same.

    The search by sound sums over all paths, and then times may differ. With a word that the
    n-grams do not list it takes the best path, as the search by letters does.
    """
    bundle = load_bundle(in_phones)
    assert bundle.pronunciations is not None
    assert b'"FAD":["FF AA DD"]' in bundle.pronunciations
    settings = dataclasses.asdict(bundle.decoder) | {"unknown_score": -1000.0}
    by_letters = Transcriber.load(
        tones["letters.asr"], language_model=tones["lm.arpa.gz"], **settings
    )
    by_sound = Transcriber.load(in_phones)
    greedy = Transcriber.load(in_phones, method="greedy")
    lexicon = tmp_path / "lexicon.txt"
    words = tones["words.dict"].read_text().splitlines()
    lexicon.write_text("".join(f"{line.split()[0]}\n" for line in words) + "FAD\nFADED\n")
    best_path = Transcriber.load(in_phones, lexicon=lexicon)
    for name in ("0.wav", "1.wav", "5.wav"):
        found = by_sound.transcribe(tones[name])
        assert found.text == by_letters.transcribe(tones[name]).text
        assert best_path.transcribe(tones[name]) == by_letters.transcribe(tones[name])
        assert found.text and found != greedy.transcribe(tones[name])


def test_live_speech_is_searched_by_its_sound(tones: dict[str, Path], in_phones: Path) -> None:
    stream = Stream(Transcriber.load(in_phones), sample_rate=SAMPLE_RATE)
    samples, _ = soundfile.read(tones["0.wav"], dtype="float32")
    events = [*stream.feed(samples), *stream.finish()]
    assert {event.type for event in events} == {"partial", "final"}
    listed = {fields.split()[0] for fields in tones["words.dict"].read_text().splitlines()}
    for event in events:
        assert event.text and set(event.text.split()) <= listed | {"FAD"}


def test_words_that_the_dictionary_lacks_can_be_favoured(
    tones: dict[str, Path], in_phones: Path
) -> None:
    letters = Transcriber.load(tones["letters.asr"], method="greedy").transcribe(tones["0.wav"])
    strange = next(word.word for word in letters.words if len(word.word) > 3)
    assert strange not in Transcriber.load(in_phones).transcribe(tones["0.wav"]).text
    hot = Transcriber.load(in_phones, hotwords=[strange.lower()], hotword_score=30.0)
    assert strange in hot.transcribe(tones["0.wav"]).text.split()


def test_a_model_without_phones_takes_no_dictionary(tones: dict[str, Path], tmp_path: Path) -> None:
    tune = ("lm", "tune", tones["m.jsonl"], "--lm", tones["lm.arpa.gz"], "-o", tmp_path / "x.asr")
    for model, dictionary, message in (
        ("letters.asr", tones["words.dict"], "letters.asr: has no output of phones"),
        ("phones.asr", tmp_path / "none.dict", "none.dict: cannot read these pronunciations"),
        (
            "phones.asr",
            tones["m.jsonl"],
            "m.jsonl: has phones that are none of the model's",
        ),
    ):
        result = run(*tune, "-m", tones[model], "--pronunciations", dictionary)
        assert (result.returncode, result.stdout) == (1, "")
        [line] = result.stderr.splitlines()
        assert message in line


def test_settings_are_checked() -> None:
    for settings in (
        {"beam_width": 0},
        {"fusion_width": 0},
        {"n_best": 0},
        {"lm_weight": -1.0},
        {"char_lm_weight": -1.0},
        {"fusion_weight": -1.0},
        {"confidence_scale": 0.0},
    ):
        with pytest.raises(ConfigError):
            DecoderConfig(**settings)  # type: ignore[arg-type]

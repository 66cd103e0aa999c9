"""The character model against formulae and itself; its training; the command that samples it."""

import itertools
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel import needs_kernel
from torch import Tensor
from torch.nn.functional import nll_loss
from typer.testing import CliRunner, Result

import asr.lm.character_training as training_module
from asr.cli.main import app
from asr.errors import ConfigError, LanguageModelError, ManifestError, TextError
from asr.lm.character import (
    BOUNDARY,
    METADATA,
    PADDING,
    Cell,
    CharacterModel,
    CharacterModelConfig,
    load_character_model,
    pad_texts,
    save_character_model,
)
from asr.lm.character_training import (
    CharacterTrainer,
    TrainingConfig,
    batches,
    bits_per_character,
    join_texts,
    train_character_model,
    truncated_losses,
)
from asr.lm.pieces import learn_pieces
from asr.quantisation import quantise, restore
from asr.text import ENGLISH, CharTokenizer

ROOT = Path(__file__).parents[1]
CELLS: tuple[Cell, ...] = ("lstm", "gru", "rnn_tanh")
english_texts = st.lists(st.text(ENGLISH, max_size=12), min_size=1, max_size=6)


PIECES = ("AB", " A", " AB", "BA")
PIECED = {"pieces": PIECES, "embedding_size": 4}


def make_model(cell: Cell = "lstm", hidden_size: int = 8, **settings: object) -> CharacterModel:
    torch.manual_seed(1)
    return CharacterModel(CharacterModelConfig(cell, hidden_size, **settings)).eval()


MODELS = {cell: make_model(cell, num_layers=2) for cell in CELLS}
MODELS["pieces"] = make_model(num_layers=2, **PIECED)


# The model


def written_out(model: CharacterModel, character: int, state: Tensor) -> tuple[Tensor, Tensor]:
    """One step of one layer as the articles have it."""
    rnn = model.rnn
    x = rnn.weight_ih_l0[:, character] + rnn.bias_ih_l0
    h = state[0, 0]
    r = rnn.weight_hh_l0 @ h + rnn.bias_hh_l0
    if model.config.cell == "lstm":
        i, f, g, o = (x + r).chunk(4)
        c = f.sigmoid() * state[1, 0] + i.sigmoid() * g.tanh()
        after = torch.stack([o.sigmoid() * c.tanh(), c])
    elif model.config.cell == "gru":
        (xr, xz, xn), (hr, hz, hn) = x.chunk(3), r.chunk(3)
        z = (xz + hz).sigmoid()
        after = ((1 - z) * (xn + (xr + hr).sigmoid() * hn).tanh() + z * h)[None]
    else:
        after = (x + r).tanh()[None]
    logits = model.output.weight @ after[0] + model.output.bias
    return logits - logits.exp().sum().log(), after[:, None]


@pytest.mark.parametrize("cell", CELLS)
def test_steps_follow_the_formulae(cell: Cell) -> None:
    model = make_model(cell)
    state = expected_state = model.initial_state()
    for character in (BOUNDARY, 9, 9, 28):
        log_probs, state = model.step(character, state)
        with torch.no_grad():
            expected, expected_state = written_out(model, character, expected_state)
        torch.testing.assert_close(log_probs, expected)
        torch.testing.assert_close(state, expected_state)


def test_with_embeddings_rows_of_the_output_are_read() -> None:
    model = make_model(**PIECED)
    assert model.step(3, model.initial_state())[0].shape == (1 + 28 + 4,)
    with torch.no_grad():
        embedding = model.output.weight[7] * 2  # the square root of 4
        expected, _ = model.rnn(embedding[None, None])
        logits = model.output.weight @ model.projection(expected[0, 0]) + model.output.bias
    log_probs, _ = model.step(7, model.initial_state())
    torch.testing.assert_close(log_probs, logits.log_softmax(dim=0))


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20, deadline=None)
@given(texts=st.one_of(english_texts, st.lists(st.text("AB ", max_size=6), min_size=1)))
def test_scores_are_sums_of_steps_whatever_stands_beside(name: str, texts: list[str]) -> None:
    model = MODELS[name]
    expected = []
    for text in texts:
        total = 0.0
        state = model.initial_state()
        tokens = [BOUNDARY, *model.tokenizer.encode(text), BOUNDARY]
        for character, following in itertools.pairwise(tokens):
            log_probs, state = model.step(character, state)
            total += float(log_probs[following])
        expected.append(total)
    assert model.score(texts).tolist() == pytest.approx(expected, rel=1e-5)


def test_many_texts_are_scored_in_their_order() -> None:
    texts = ["A" * (i * 37 % 50) + "B" * (i % 30) for i in range(600)]
    model = MODELS["gru"]
    alone = {text: float(model.score([text])) for text in set(texts)}
    assert model.score(texts).tolist() == pytest.approx([alone[t] for t in texts], rel=1e-5)
    assert model.score([]).shape == (0,)


@pytest.mark.parametrize("cell", CELLS)
def test_the_probabilities_of_all_texts_sum_to_one(cell: Cell) -> None:
    model = make_model(cell, alphabet="AB")
    shorter = ["".join(t) for n in range(4) for t in itertools.product("AB", repeat=n)]
    total = float(model.score(shorter).exp().sum())
    for prefix in itertools.product((1, 2), repeat=4):  # all that is longer begins with these
        state = model.initial_state()
        log_prob = 0.0
        for character, following in itertools.pairwise((BOUNDARY, *prefix)):
            log_probs, state = model.step(character, state)
            log_prob += float(log_probs[following])
        total += math.exp(log_prob)
    assert total == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_beam_advances_at_once_and_picks_its_states(cell: Cell) -> None:
    model = MODELS[cell]
    log_probs, state = model.step(torch.tensor([0, 0, 0]), model.initial_state(3))
    assert log_probs.shape == (3, len(CharTokenizer()))
    log_probs, state = model.step(torch.tensor([5, 6, 7]), state)
    survivors = torch.tensor([2, 0, 2, 1])
    log_probs, state = model.step(torch.tensor([8, 9, 10, 11]), state[survivors])
    for i, text in enumerate([(0, 7, 8), (0, 5, 9), (0, 7, 10), (0, 6, 11)]):
        alone = model.initial_state()
        for character in text:
            expected, alone = model.step(character, alone)
        torch.testing.assert_close(log_probs[i], expected)
        torch.testing.assert_close(state[i], alone)


def test_sampling_follows_the_probabilities() -> None:
    model = make_model(alphabet="AB")
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(model.sample("A", length=1, generator=generator) for _ in range(2000))
    log_probs, _ = model.step(1, model.step(BOUNDARY, model.initial_state())[1])
    for character, prob in zip(("", "A", "B"), log_probs.exp().tolist(), strict=True):
        deviation = math.sqrt(prob * (1 - prob) / 2000)
        assert drawn[character] / 2000 == pytest.approx(prob, abs=4 * deviation)


def test_temperature_sharpens_and_zero_takes_the_likeliest() -> None:
    model = make_model(alphabet="AB")
    log_probs, _ = model.step(BOUNDARY, model.initial_state())
    likeliest = ["", "A", "B"][int(log_probs.argmax())]
    assert model.sample(length=1, temperature=0) == likeliest
    assert {model.sample(length=1, temperature=1e-40) for _ in range(20)} == {likeliest}
    assert {model.sample(length=1, temperature=9) for _ in range(99)} == {"", "A", "B"}
    assert model.sample("AB", length=0) == ""


def test_what_it_cannot_read_or_do_is_told() -> None:
    model = MODELS["lstm"]
    for act in (lambda: model.score(["A", "hé"]), lambda: model.sample("hé")):
        with pytest.raises(TextError, match="characters 'hé' of 'hé' are not in the alphabet"):
            act()
    for temperature in (-1, math.nan):
        with pytest.raises(ConfigError, match="is negative"):
            model.sample(temperature=temperature)
    for wrong in ({"cell": "rnn"}, {"hidden_size": 0}, {"num_layers": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CharacterModelConfig(**wrong)


# The file


@pytest.mark.parametrize(
    ("cell", "more"), [("lstm", {}), ("gru", {}), ("rnn_tanh", {}), ("lstm", PIECED)]
)
def test_a_file_gives_the_model_back(tmp_path: Path, cell: Cell, more: dict[str, Any]) -> None:
    model = make_model(cell, num_layers=2, alphabet="ABC ", **more)
    first, second = tmp_path / "new" / "1.safetensors", tmp_path / "2.safetensors"
    save_character_model(first, model)
    loaded = load_character_model(first)
    assert loaded.config == model.config
    texts = ["", "A", "CAB A"]
    assert loaded.score(texts).tolist() == pytest.approx(model.score(texts).tolist(), abs=0.02)
    save_character_model(second, loaded)
    assert second.read_bytes() == first.read_bytes()
    rounded = restore(quantise(model.state_dict()))
    for name, weights in load_character_model(second).state_dict().items():
        assert torch.equal(weights, rounded[name].float())


def write_file(path: Path, tensors: dict[str, Tensor], **settings: object) -> None:
    complete = {"format_version": 1, "cell": "gru", "hidden_size": 8} | settings
    safetensors.torch.save_file(tensors, path, {METADATA: json.dumps(complete)})


def test_bad_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    weights = make_model("gru").state_dict()
    write_file(path, weights)
    good = path.read_bytes()
    load_character_model(path)

    def refused(message: str) -> None:
        with pytest.raises(LanguageModelError, match=message) as caught:
            load_character_model(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    for content in (b"", b"no model", good[:100], good[:-1], good + b"0"):
        path.write_bytes(content)
        refused("cannot read this character model")
    path.unlink()
    refused("no such file")
    safetensors.torch.save_file(weights, path)
    refused("not a character model")
    for version in (4, 0, "1", True, None):
        write_file(path, weights, format_version=version)
        refused(f"has format {version!r}")
    for wrong in (
        {"cell": "sru"},
        {"hidden_size": "8"},
        {"hidden_size": -8},
        {"num_layers": 10**12},
        {"alphabet": "AA"},
        {"alphabet": 5},
        {"pieces": ["A"]},
        {"pieces": 5},
        {"embedding_size": -1},
        {"layers": 2},
    ):
        write_file(path, weights, **wrong)
        refused("its settings are damaged")
    safetensors.torch.save_file(weights, path, {METADATA: "[" * 100_000})
    refused("its settings are damaged")
    for wrong in (
        {"cell": "lstm"},
        {"hidden_size": 10_000},
        {"num_layers": 2},
        {"alphabet": "A"},
        PIECED,
    ):
        write_file(path, weights, **wrong)
        refused("its weights are not those of its settings")
    write_file(path, {name: x for name, x in weights.items() if name != "output.bias"})
    refused("its weights are not those of its settings")
    write_file(path, weights | {"output.weight": weights["output.weight"].to(torch.int8)})
    refused("its weights are not those of its settings")
    write_file(path, weights | {"output.weight.scales": torch.ones(29)})
    refused("weights 'output.weight' have no scale for each row")
    write_file(path, weights | {"output.bias": torch.full((29,), math.nan)})
    refused("its weights are not finite")
    safetensors.torch.save_file(weights, path, {METADATA: "no JSON"})
    refused("its settings are damaged")


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = make_model()
    save_character_model(path, model)
    before = path.read_bytes()
    with torch.no_grad():
        model.output.bias[3] = 1e6  # infinite in half precision
    with pytest.raises(LanguageModelError, match=r"'output.bias' are not finite"):
        save_character_model(path, model)
    with torch.no_grad():
        model.output.weight[3, 4] = math.nan
    with pytest.raises(LanguageModelError, match=r"'output.weight' are not finite"):
        save_character_model(path, model)
    assert path.read_bytes() == before


# Truncated back-propagation through time

TEXTS = ["ABCABCABCABC", "BCAB", "", "CCAABBCCAAB"]


def tokens_of(texts: list[str]) -> Tensor:
    return pad_texts([CharTokenizer().encode(text) for text in texts])


def test_texts_are_padded_and_shifted_by_one() -> None:
    inputs, targets = tokens_of(["AB", ""]).tolist()
    assert inputs == [[BOUNDARY, 3, 4], [BOUNDARY, BOUNDARY, PADDING]]
    assert targets == [[3, 4, BOUNDARY], [BOUNDARY, PADDING, PADDING]]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("chunk_length", [1, 3, 5, 13, 99])
def test_the_carried_state_makes_chunks_equal_the_whole(cell: Cell, chunk_length: int) -> None:
    model = make_model(cell, num_layers=2)
    inputs, targets = tokens_of(TEXTS)
    losses = list(truncated_losses(model, inputs, targets, chunk_length))
    assert len(losses) == math.ceil(13 / chunk_length)
    counts = [(x != PADDING).sum() for x in targets.tensor_split(len(losses), dim=1)]
    total = sum(loss * count for loss, count in zip(losses, counts, strict=True))
    assert float(total.detach()) == pytest.approx(-float(model.score(TEXTS).sum()), rel=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_is_cut_at_the_edge_of_a_chunk(cell: Cell) -> None:
    model = make_model(cell)
    text = "AAAABBBB"  # the second chunk reads no A, but begins with a state that A left

    def gradients(chunk_length: int) -> Tensor:
        model.zero_grad()
        inputs, targets = tokens_of([text])
        *_, last = truncated_losses(model, inputs[:, 1:], targets[:, 1:], chunk_length)
        last.backward()
        return model.rnn.weight_ih_l0.grad

    a, b = CharTokenizer().encode("AB")
    cut, whole = gradients(4), gradients(8)
    assert not cut[:, a].any() and cut[:, b].all()
    assert whole[:, a].all()

    # Within the last chunk it is the gradient of a model that is handed the state as a constant.
    with torch.no_grad():
        _, state = model(torch.full((1, 4), a), model.initial_state(1))
    model.zero_grad()
    log_probs, _ = model(torch.full((1, 4), b), state)
    nll_loss(log_probs[0], torch.tensor([b, b, b, BOUNDARY])).backward()
    torch.testing.assert_close(model.rnn.weight_ih_l0.grad, cut)


def test_no_text_influences_the_next() -> None:
    config = TrainingConfig(lr=0.0, chunk_length=3)  # so that the weights stay
    batch = ["CAB", "BAC"]
    alone = CharacterTrainer(make_model(), config).train_batch(batch)
    for before in (["AAAAAAA", "B"], ["C"]):
        trainer = CharacterTrainer(make_model(), config)
        trainer.train_batch(before)
        assert trainer.train_batch(batch) == alone
    other = CharacterTrainer(make_model(), config).train_batch(["CAB", "BAA"])
    assert other != alone


def test_it_learns_to_extend_hello() -> None:
    torch.manual_seed(0)
    model = CharacterModel(CharacterModelConfig(hidden_size=32))
    trainer = CharacterTrainer(model, TrainingConfig(chunk_length=8, steps=150, lr=0.02))
    texts = [" ".join(["HELLO"] * n) for n in (1, 2, 3, 4)]
    while trainer.step < 150:
        trainer.train_batch(texts)
    assert model.sample("HEL", length=2, temperature=0) == "LO"
    assert model.sample("", length=11, temperature=0).startswith("HELLO")
    assert bits_per_character(model, texts) < 0.5
    assert model.score(["HELLO"]) > model.score(["HELLP"])


def test_bits_count_the_end_of_a_text() -> None:
    model = make_model()
    torch.nn.init.zeros_(model.output.weight)
    torch.nn.init.zeros_(model.output.bias)
    assert bits_per_character(model, ["AB", ""]) == pytest.approx(math.log2(29))
    model.output.bias.data[BOUNDARY] = 50.0
    assert bits_per_character(model, [""]) == pytest.approx(0, abs=1e-6)
    assert bits_per_character(model, ["A"]) == pytest.approx(50 / math.log(2) / 2, rel=1e-3)


def test_bfloat16_gives_about_the_same_losses() -> None:
    model = make_model("gru")
    inputs, targets = tokens_of(TEXTS)
    exact = [float(loss.detach()) for loss in truncated_losses(model, inputs, targets, 5)]
    rounded = list(truncated_losses(model, inputs, targets, 5, bfloat16=True))
    assert [float(loss.detach()) for loss in rounded] == pytest.approx(exact, rel=0.02)
    rounded[-1].backward()
    assert model.output.weight.grad.dtype == torch.float32


@needs_kernel
def test_the_kernel_trains_as_the_library_does() -> None:
    def trained(native_lstm: bool) -> list[float]:
        model = make_model("lstm", 64, num_layers=2, **PIECED)
        config = TrainingConfig(
            lr=0.01, warmup=0, chunk_length=5, bfloat16=True, native_lstm=native_lstm
        )
        trainer = CharacterTrainer(model, config)
        return [trainer.train_batch(["AB AB CAB", "", "BA CAB"]) for _ in range(8)]

    expected = trained(False)
    assert trained(True) == pytest.approx(expected, rel=0.02)
    assert expected[-1] < 0.9 * expected[0]


@needs_kernel
def test_the_kernel_is_for_lstms_in_bfloat16() -> None:
    config = TrainingConfig(bfloat16=True, native_lstm=True)
    for model in make_model("gru", 64), make_model("lstm", 8):
        with pytest.raises(ConfigError, match="multiple of 64"):
            CharacterTrainer(model, config)
    with pytest.raises(ConfigError, match=r"--training\.bfloat16"):
        TrainingConfig(native_lstm=True)


def test_the_learning_rate_rises_then_falls() -> None:
    config = TrainingConfig(steps=100, warmup=0.1, lr=1.0)
    rates = [config.learning_rate(step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    assert rates[10] == 1.0 and rates[55] == pytest.approx(0.5) and rates[100] == 0.0
    assert config.learning_rate(103) == 0.0
    assert rates[10:] == sorted(rates[10:], reverse=True)


# Texts and batches


@given(st.lists(st.text("AB", min_size=1, max_size=9)), st.integers(0, 30))
def test_joining_keeps_order_and_length(sentences: list[str], text_length: int) -> None:
    joined = list(join_texts(sentences, text_length))
    assert " ".join(joined) == " ".join(sentences)
    for text in joined:
        assert len(text) <= text_length or text in sentences
    for text, following in itertools.pairwise(joined):
        assert len(f"{text} {following.split()[0]}") > text_length


def test_an_epoch_holds_every_text_once_in_batches_of_like_length() -> None:
    texts = [chr(65 + i % 26) * (i * 7919 % 1000) for i in range(1000)]
    count = math.ceil(len(texts) / 16)
    stream = batches(texts, 16, seed=3)
    epochs = [list(itertools.islice(stream, count)) for _ in range(2)]
    for epoch in epochs:
        assert Counter(itertools.chain(*epoch)) == Counter(texts)
        assert max(max(map(len, batch)) - min(map(len, batch)) for batch in epoch) < 30
    assert epochs[0] != epochs[1]
    assert list(itertools.islice(batches(texts, 16, seed=3), count)) == epochs[0]
    assert list(itertools.islice(batches(texts, 16, seed=4), count)) != epochs[0]


# Whole trainings

TINY = CharacterModelConfig("gru", 8)
SHORT = TrainingConfig(
    lr=0.004, text_length=20, batch_size=4, chunk_length=12, steps=12, validate_every=4
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    running = tmp_path / "novel.txt"
    running.write_text("Hello there. Hello you! It was 1842 then. " * 20 + "The end.\n")
    manifest = tmp_path / "val.jsonl"
    lines = [
        {"id": str(i), "audio_filepath": "a.wav", "duration": 1, "text": text}
        for i, text in enumerate(["Hello, you", "there", "..."])
    ]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [running], [manifest]


def train(
    files: tuple[list[Path], list[Path]], run_dir: Path, config: TrainingConfig = SHORT
) -> dict[str, bytes]:
    train_character_model(*files, run_dir, TINY, config, torch.device("cpu"))
    return {path.name: path.read_bytes() for path in run_dir.iterdir()}


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Interrupt a training after six updates, between two checkpoints."""
    train_batch = CharacterTrainer.train_batch

    def stopping(self: CharacterTrainer, texts: list[str]) -> float:
        if self.step >= 6:
            raise KeyboardInterrupt
        return train_batch(self, texts)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CharacterTrainer, "train_batch", stopping)
        yield


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(
    tmp_path: Path,
    files: tuple[list[Path], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uninterrupted = train(files, tmp_path / "1")
    assert set(uninterrupted) == {"checkpoint.safetensors", "model.safetensors"}
    told = capsys.readouterr().err
    assert "2 texts, 14 characters" in told
    assert "left out: 20 with characters outside the alphabet" in told
    with interrupted(monkeypatch):
        train(files, tmp_path / "2")
    capsys.readouterr()
    assert train(files, tmp_path / "2") == uninterrupted
    told = capsys.readouterr().err
    assert "going on from" in told and "bits per character held out" in told
    assert train(files, tmp_path / "2") == uninterrupted  # nothing is left to do
    assert "while training" not in capsys.readouterr().err
    (file, *_) = files[0]
    file.write_text(file.read_text("utf-8").replace("Hello", "Jelly"), "utf-8")
    with pytest.raises(ConfigError, match="with read "):
        train(files, tmp_path / "2")


def test_pieces_are_learnt_from_the_text(
    tmp_path: Path, files: tuple[list[Path], list[Path]]
) -> None:
    model = CharacterModelConfig("lstm", 8, embedding_size=4)
    texts = " ".join(["HELLO THERE HELLO YOU"] * 20 + ["THE END"])
    pieces = tuple(learn_pieces(Counter(texts.split()), 5))

    def run(**more: int) -> bytes:
        config = TrainingConfig(**vars(SHORT) | {"pieces": 5} | more)
        train_character_model(*files, tmp_path / "run", model, config, torch.device("cpu"))
        return (tmp_path / "run" / "model.safetensors").read_bytes()

    first = run()
    assert load_character_model(tmp_path / "run" / "model.safetensors").config.pieces == pieces
    assert run() == first  # goes on from its end
    with pytest.raises(ConfigError, match="with pieces 5, not 6"):
        run(pieces=6)
    with pytest.raises(ConfigError, match="pieces -1 is out of range"):
        run(pieces=-1)


def test_a_training_starts_from_a_model_or_a_bundle_with_one(
    tmp_path: Path,
    files: tuple[list[Path], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain, bundle = tmp_path / "start.safetensors", tmp_path / "start.asr"
    start = make_model("lstm", pieces=("TH", "LL"), embedding_size=4)
    save_character_model(plain, start)
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.write(plain, "char_lm.safetensors")

    def run(name: str, init_from: Path) -> bytes:
        config = TrainingConfig(**vars(SHORT) | {"pieces": 7})
        place = tmp_path / name, TINY, config, torch.device("cpu"), init_from
        train_character_model(*files, *place)
        return (tmp_path / name / "model.safetensors").read_bytes()

    first = run("1", plain)
    told = capsys.readouterr().err
    assert re.search(r"start\.safetensors: \d\.\d{4} bits per character held out", told)
    trained = load_character_model(tmp_path / "1" / "model.safetensors")
    assert trained.config == start.config
    before = load_character_model(plain).state_dict()
    assert all((x != before[name]).any() for name, x in trained.state_dict().items())
    assert run("1", plain) == first
    assert "while training" not in capsys.readouterr().err  # nothing is left to do
    with interrupted(monkeypatch):
        run("2", bundle)
    assert run("2", bundle) == first
    with monkeypatch.context() as patch:
        measured = iter([2.0, 2.5, 3.0, 2.5])
        patch.setattr(training_module, "bits_per_character", lambda *_: next(measured))
        assert run("3", plain) == plain.read_bytes()  # the start was better
    with torch.no_grad():
        start.output.bias += 1
    save_character_model(plain, start)
    with pytest.raises(ConfigError, match="training that started from another model; name another"):
        run("1", plain)
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("bundle.json", "{}")
    with pytest.raises(LanguageModelError, match=r"start\.asr: holds no character model"):
        run("4", bundle)


def test_a_checkpoint_without_a_start_is_no_start(
    tmp_path: Path, files: tuple[list[Path], list[Path]]
) -> None:
    start = tmp_path / "start.safetensors"
    save_character_model(start, make_model("gru"))
    train(files, tmp_path / "run")
    with pytest.raises(ConfigError, match="started from another model"):
        place = tmp_path / "run", TINY, SHORT, torch.device("cpu"), start
        train_character_model(*files, *place)


@needs_kernel
def test_the_kernel_is_refused_before_the_text_is_read(tmp_path: Path) -> None:
    config = TrainingConfig(**vars(SHORT) | {"bfloat16": True, "native_lstm": True})
    nowhere = [tmp_path / "none.txt"]
    with pytest.raises(ConfigError, match="multiple of 64"):
        train_character_model(nowhere, nowhere, tmp_path / "run", TINY, config, torch.device("cpu"))


def test_the_loss_is_that_of_a_character_with_pieces_as_well() -> None:
    model = make_model(**PIECED)
    texts = ["AB AB", "BA CAB", ""]
    config = TrainingConfig(lr=0.0, chunk_length=99)
    bits = CharacterTrainer(model, config).train_batch(texts) / math.log(2)
    assert bits == pytest.approx(bits_per_character(model, texts), rel=1e-5)


def test_the_best_model_is_kept(
    tmp_path: Path, files: tuple[list[Path], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([3.0, 2.0, 2.5])
    saved = []
    monkeypatch.setattr(training_module, "bits_per_character", lambda *_: next(measured))
    monkeypatch.setattr(training_module, "save_character_model", lambda *_: saved.append(True))
    train(files, tmp_path / "run")
    assert len(saved) == 2
    assert next(measured, None) is None


def test_other_settings_and_damaged_checkpoints_are_told(
    tmp_path: Path, files: tuple[list[Path], list[Path]]
) -> None:
    run_dir = tmp_path / "run"
    train(files, run_dir)
    with pytest.raises(ConfigError, match=r"with lr 0.004, not 0.1; name another run folder"):
        train(files, run_dir, TrainingConfig(**vars(SHORT) | {"lr": 0.1}))
    checkpoint = run_dir / "checkpoint.safetensors"
    for content in (checkpoint.read_bytes()[:-9], (run_dir / "model.safetensors").read_bytes()):
        checkpoint.write_bytes(content)
        with pytest.raises(LanguageModelError, match="damaged checkpoint; remove it"):
            train(files, run_dir)


def test_a_training_that_diverges_says_so(
    tmp_path: Path, files: tuple[list[Path], list[Path]]
) -> None:
    with pytest.raises(ConfigError, match=r"diverged at step \d+; lower the learning rate"):
        train(files, tmp_path / "run", TrainingConfig(**vars(SHORT) | {"lr": math.inf}))


def test_texts_without_a_text_are_told(
    tmp_path: Path, files: tuple[list[Path], list[Path]]
) -> None:
    good, _ = files
    for content in ("", "1842\n"):
        empty = tmp_path / "empty.txt"
        empty.write_text(content)
        for lists in (([empty], good), (good, [empty])):
            with pytest.raises(TextError, match=r"empty.txt: no text in the alphabet"):
                train(lists, tmp_path / "run")
    for name, error in (("none.txt", TextError), ("none.jsonl", ManifestError)):
        with pytest.raises(error, match=f"{name}: "):
            train((good, [tmp_path / name]), tmp_path / "run")
    for name in ("batch_size", "chunk_length", "steps", "validate_every", "clip_norm"):
        with pytest.raises(ConfigError, match=name):
            TrainingConfig(**{name: 0})
    for wrong in ({"lr": -0.1}, {"lr": math.nan}, {"warmup": 1.5}):
        with pytest.raises(ConfigError, match="is out of range"):
            TrainingConfig(**wrong)


def test_a_run_folder_that_cannot_be_written_is_told_before_the_training(
    tmp_path: Path, files: tuple[list[Path], list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"model.safetensors: cannot be written"):
        train(files, tmp_path / "file" / "run")
    assert not capsys.readouterr().err


# The commands


def sample(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["lm", "sample", *map(str, arguments)])


README = (ROOT / "recipes" / "char_lm" / "README.md").read_text("utf-8")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the recipe's commands as its README has them; return the folder and the last output."""
    folder = tmp_path_factory.mktemp("hello")
    shutil.copytree(ROOT / "recipes" / "char_lm", folder / "recipes" / "char_lm")
    [block] = re.findall(
        r"<!-- run by tests/test_character_lm.py -->\n```sh\n(.*?)```", README, re.S
    )
    for line in block.splitlines():
        program, *arguments = shlex.split(line)
        done = run(folder, *(["-m", "asr"] if program == "asr" else []), *arguments)
        assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_recipe_reads_and_extends_hello(hello: tuple[Path, str]) -> None:
    assert hello[1] == "HELLO\n"


def test_the_readme_python_runs(
    hello: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(hello[0])
    exec(code, {})
    assert capsys.readouterr().out.endswith("\nL\n")


def test_the_recipe_tells_what_is_wrong_in_its_last_line(tmp_path: Path) -> None:
    script = str(ROOT / "recipes" / "char_lm" / "train.py")
    done = run(tmp_path, script, "--train", "[a.txt]", "--val", "[missing.txt]")
    assert done.returncode == 1
    assert done.stderr.startswith("train: error: a.txt: cannot read this text")
    assert done.stderr.count("\n") == 1


def test_command_samples_alike_with_the_same_seed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_character_model(path, make_model())
    results = [sample(path, "--prompt", "Who,", "--seed", seed).stdout for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]
    assert all(result.startswith("WHO") for result in results)
    assert len(sample(path, "--length", 3).stdout) <= 4
    assert sample(path, "--prompt", "ok", "--length", 0).stdout == "OK\n"


def test_command_tells_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_character_model(path, make_model())
    for arguments, message in (
        ((path, "--prompt", "in 1842"), "characters '1248' of 'IN 1842' are not in the alphabet"),
        ((tmp_path / "none",), "no such file"),
        ((ROOT / "README.md",), "cannot read this character model"),
    ):
        result = sample(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert message in result.stderr
    for option in (
        ("--temperature", -1),
        ("--temperature", "nan"),
        ("--length", -1),
        ("--seed", -1),
    ):
        assert sample(path, *option).exit_code == 2

"""Training on a tiny corpus of tones, through the recipe's own command line."""

import csv
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from kernel import needs_kernel
from test_scoring import edit_distance
from tones import ALPHABET, SAMPLE_RATE, write_corpus
from torch.nn.parallel import DistributedDataParallel

from asr import training
from asr.audio import load_audio
from asr.augment import SpecAugmentConfig
from asr.bundle import load_bundle, save_bundle
from asr.checkpoint import load_checkpoint
from asr.data.dataset import Batch
from asr.data.manifest import read_manifest
from asr.decoding.config import DecoderConfig
from asr.decoding.greedy import GreedyDecoder
from asr.errors import ConfigError
from asr.features import FeatureConfig
from asr.models.crf import Denominator, phone_trigram
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig
from asr.training import CTC_SHARE, CtcModule, newest_checkpoint, train

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / "recipes" / "librispeech" / "train.py"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return {
        "train": write_corpus(folder, "train", 60, seed=1),
        "val": write_corpus(folder, "val", 10, seed=2),
    }


def settings(corpus, run_dir, **trainer):
    return {
        "run_dir": str(run_dir),
        "trainer": {
            "max_epochs": 3,
            "accelerator": "cpu",
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        | trainer,
        "data": {
            "train": [str(corpus["train"])],
            "val": [str(corpus["val"])],
            "alphabet": ALPHABET,
            "features": {
                "sample_rate": SAMPLE_RATE,
                "n_fft": 256,
                "win_length": 200,
                "hop_length": 80,
                "n_mels": 16,
            },
            "augment": {"gain_probability": 0.5, "band_limit_probability": 0.2},
            "batch_seconds": 8,
            "num_workers": 0,
        },
        "model": {
            "lr": 0.01,
            "encoder": {"hidden_size": 24, "num_layers": 2, "conv_channels": 4, "dropout": 0.1},
            "spec_augment": {"frequency_masks": 1, "frequency_width": 2, "time_masks": 1},
        },
        "ema": {"decay": 0.9},
        "checkpoint": {"every_n_train_steps": 4},
    }


def command(config, folder):
    path = Path(folder) / f"{time.monotonic_ns()}.yaml"
    path.write_text(yaml.safe_dump(config))
    return [sys.executable, "-W", "ignore", str(TRAIN), "--config", str(path)]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(config, folder):
    done = subprocess.run(
        command(config, folder), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def metrics(run_dir, name):
    """Return the values of one column over all starts of a run."""
    rows = []
    for path in sorted(Path(run_dir).glob("csv/version_*/metrics.csv")):
        with path.open() as file:
            rows += list(csv.DictReader(file))
    return [float(row[name]) for row in rows if row.get(name)]


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run") / "whole"
    run(settings(corpus, run_dir), run_dir.parent)
    return run_dir


def weights(run_dir):
    return load_checkpoint(run_dir / "checkpoints" / "last.ckpt").state_dict()


@pytest.mark.parametrize("kill_at", ["last-step=12", "last.ckpt", "last-step=44"])
def test_killed_and_started_again_gives_the_same_weights(corpus, uninterrupted, tmp_path, kill_at):
    config = settings(corpus, tmp_path / "run")
    process = subprocess.Popen(
        command(config, tmp_path),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list((tmp_path / "run").glob(f"checkpoints/{kill_at}*")):
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert "going on from" in run(config, tmp_path).stderr
    expected, resumed = weights(uninterrupted), weights(tmp_path / "run")
    assert expected.keys() == resumed.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name


def test_a_training_that_is_terminated_does_not_claim_to_have_ended(corpus, tmp_path):
    config = settings(corpus, tmp_path / "run", max_epochs=1000)
    process = subprocess.Popen(
        command(config, tmp_path),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list((tmp_path / "run").glob("checkpoints/last.ckpt")):
        assert process.poll() is None, "training ended before it could be terminated"
        time.sleep(0.005)
    process.terminate()
    assert process.wait(60) in (128 + signal.SIGTERM, -signal.SIGTERM)


def test_measurements_are_logged(uninterrupted):
    losses = metrics(uninterrupted, "train/loss")
    assert losses[-1] < losses[0]
    for name in (
        "train/lr",
        "train/gradient_norm",
        "train/audio_seconds_per_second",
        "train/data_wait_share",
        "train/lost_utterances",
        "val/loss",
        "val/wer",
        "val/cer",
        "val/blank_rate",
    ):
        assert metrics(uninterrupted, name), name
    assert list(uninterrupted.glob("tensorboard/version_*/events*"))


def test_a_finished_run_started_again_does_nothing(corpus, uninterrupted, tmp_path):
    before, steps = weights(uninterrupted), len(metrics(uninterrupted, "train/loss"))
    run(settings(corpus, uninterrupted), tmp_path)
    after = weights(uninterrupted)
    assert len(metrics(uninterrupted, "train/loss")) == steps
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_stopped_early_started_again_does_nothing(corpus, tmp_path):
    config = settings(corpus, tmp_path / "run", max_epochs=6)
    config["model"]["lr"] = 1e-12  # no epoch is better than the first
    config["early_stopping"] = {"patience": 1}
    for _ in range(2):
        run(config, tmp_path)
        assert len(metrics(tmp_path / "run", "val/wer")) == 2


def test_no_checkpoint_is_of_half_an_update_or_of_an_epoch_not_yet_validated(corpus, tmp_path):
    config = settings(corpus, tmp_path / "run", accumulate_grad_batches=2)
    config["checkpoint"] = {"every_n_train_steps": 1, "save_top_k": -1}
    for epochs in (1, 3):
        config["trainer"]["max_epochs"] = epochs
        run(config, tmp_path)
    states = {}
    for path in (tmp_path / "run").glob("checkpoints/last-*"):
        state = torch.load(path, weights_only=True)
        assert path.stem == f"last-step={state['global_step']}"
        states[state["global_step"]] = state
    assert sorted(states) == list(range(1, max(states) + 1))
    for step, state in states.items():
        done = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        is_whole = done["current"]["processed"] % 2 == 0
        [stopping] = [s for key, s in state["callbacks"].items() if key.startswith("Early")]
        if step % (max(states) // 3):
            assert is_whole
        else:  # the end of an epoch, whose last update may have one batch
            assert done["is_last_batch"] and stopping["best_score"].isfinite()


def test_checkpoints_may_be_saved_by_epochs_rather_than_by_updates(corpus, tmp_path):
    config = settings(corpus, tmp_path / "run", max_epochs=2)
    config["checkpoint"] = {"every_n_train_steps": 0, "every_n_epochs": 1}
    run(config, tmp_path)
    assert len(list((tmp_path / "run").glob("checkpoints/last-step=*.ckpt"))) == 2


def test_only_validated_epochs_can_be_the_best(corpus, tmp_path):
    run(settings(corpus, tmp_path / "run", max_epochs=4, check_val_every_n_epoch=2), tmp_path)
    [(first, first_wer), (second, second_wer)] = sorted(
        (int(path.stem.split("-")[1]), float(path.stem.split("wer")[1]))
        for path in (tmp_path / "run" / "checkpoints").glob("best-*.ckpt")
    )
    assert second == 2 * first
    assert metrics(tmp_path / "run", "val/wer") == pytest.approx([first_wer, second_wer], abs=1e-4)


def test_two_processes_train_together(corpus, tmp_path):
    lines = corpus["val"].read_text().splitlines(keepends=True)
    odd = corpus["val"].with_name("odd.jsonl")  # so that one rank has one batch more
    odd.write_text("".join(lines[:9]))
    config = settings(
        corpus | {"val": odd}, tmp_path / "run", devices=2, strategy="ddp", max_epochs=8
    )
    run(config, tmp_path)
    model = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").eval()
    blanks, frames, pairs = 0, 0, []
    for utterance in read_manifest(odd):
        waveform = torch.from_numpy(load_audio(utterance.audio, SAMPLE_RATE))[None]
        with torch.no_grad():
            log_probs, _ = model.log_probs_of(waveform, torch.tensor([waveform.shape[1]]))
        blanks += int((log_probs.argmax(dim=2) == 0).sum())
        frames += log_probs.shape[1]
        lengths = torch.tensor([log_probs.shape[1]])
        [[best]] = GreedyDecoder(model.tokenizer).decode(log_probs, lengths)
        pairs.append((utterance.text, best.text))
    for name, split in (("val/wer", str.split), ("val/cer", list)):
        errors = sum(edit_distance(split(text), split(best)) for text, best in pairs)
        expected = errors / sum(len(split(text)) for text, _ in pairs)
        assert metrics(tmp_path / "run", name)[-1] == pytest.approx(expected, abs=1e-4)
    assert 0 < blanks < frames
    rate = metrics(tmp_path / "run", "val/blank_rate")[-1]  # over the shares of both
    assert rate == pytest.approx(blanks / frames, abs=1e-4)


def test_more_processes_than_validation_batches_are_one_line(corpus, tmp_path):
    one = corpus["val"].with_name("one.jsonl")
    one.write_text(corpus["val"].read_text().splitlines(keepends=True)[0])
    config = settings(corpus | {"val": one}, tmp_path / "run", devices=2, strategy="ddp")
    done = subprocess.run(
        command(config, tmp_path), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("train: error: ")]
    assert lines and "2 processes, but the validation set makes only 1 batches" in lines[0]


def test_processes_send_each_other_no_buffers(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        module = CtcModule(encoder=EncoderConfig(hidden_size=4, num_layers=1, conv_channels=2))
        assert list(module.buffers())
        assert not DistributedDataParallel(module).modules_buffers
    finally:
        torch.distributed.destroy_process_group()


def test_the_last_checkpoint_is_the_last_epoch_even_if_others_are_better(corpus, tmp_path):
    config = settings(corpus, tmp_path / "run")
    config["model"]["lr"] = 1e-12  # no epoch is better than the first
    config["best"] = {"save_top_k": 1}
    run(config, tmp_path)
    assert len(list((tmp_path / "run" / "checkpoints").glob("best-*"))) == 1
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2


def test_a_recording_that_a_data_process_cannot_read_is_one_line(corpus, tmp_path):
    broken = corpus["train"].with_name("broken.jsonl")
    line = '{"audio_filepath": "gone.wav", "duration": 1.0, "text": "AB"}\n'
    broken.write_text(corpus["train"].read_text() + line)
    config = settings(corpus | {"train": broken}, tmp_path / "run", max_epochs=1)
    config["data"]["num_workers"] = 1
    done = subprocess.run(
        command(config, tmp_path), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"train: error: {broken.parent}/gone.wav: no such"
    )


@pytest.mark.parametrize("with_phones", [False, True])
def test_unknown_characters_stop_the_training_with_their_counts(
    corpus, dictionary, tmp_path, with_phones
):
    config = settings(corpus, tmp_path / "run")
    config["data"]["alphabet"] = " ABC"
    if with_phones:  # words that cannot be written are in no dictionary either
        lines = dictionary.read_text().splitlines(keepends=True)
        (tmp_path / "abc.dict").write_text("".join(line for line in lines if "D" not in line))
        config["data"]["pronunciations"] = str(tmp_path / "abc.dict")
    done = subprocess.run(
        command(config, tmp_path), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "'D' x " in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def bundle(uninterrupted, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "tones.asr"
    model = load_checkpoint(uninterrupted / "checkpoints" / "last.ckpt")
    save_bundle(path, model, DecoderConfig(), "# Tones\n", precision="float32")
    return path


def test_a_bundle_to_start_from_gives_settings_and_weights(corpus, uninterrupted, bundle, tmp_path):
    config = settings(corpus, tmp_path / "run", max_epochs=1) | {"init_from": str(bundle)}
    del config["data"]["features"], config["model"]["encoder"]
    done = run(config, tmp_path)
    assert f"starting from {bundle}, whose front end and encoder are used: " in done.stderr
    source = load_checkpoint(uninterrupted / "checkpoints" / "last.ckpt")
    tuned = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert tuned.features_config == source.features_config
    # Dropout is a choice of the training, not of the model.
    assert tuned.encoder_config == replace(source.encoder_config, dropout=EncoderConfig().dropout)
    from_nothing = metrics(uninterrupted, "train/loss")
    assert metrics(tmp_path / "run", "train/loss")[0] < from_nothing[0] / 2


def started_from(bundle, alphabet, **encoder):
    source = load_bundle(bundle).model
    encoder = replace(source.encoder_config, **encoder)
    module = CtcModule(source.features_config, encoder, alphabet, init_from=str(bundle))
    return source.state_dict(), module.model.state_dict()


@pytest.mark.parametrize("alphabet", [ALPHABET[::-1], ALPHABET + "E", ALPHABET])
def test_another_alphabet_gets_an_output_layer_of_its_own(bundle, alphabet):
    before, after = started_from(bundle, alphabet)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        same = alphabet == ALPHABET or not name.startswith("output.")
        assert torch.equal(tensor, after[name]) == same, name


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    """Return pronunciations of all words of up to four letters: one phone a letter."""
    path = tmp_path_factory.mktemp("dictionary") / "words.txt"
    words = ("".join(w) for n in range(1, 5) for w in itertools.product("ABCD", repeat=n))
    path.write_text("".join(f"{word} {' '.join(f'{c}{c}1' for c in word)}\n" for word in words))
    return path


@pytest.mark.parametrize("crf", [False, True])
def test_an_output_of_phones_is_trained_beside(corpus, dictionary, tmp_path, crf):
    config = settings(corpus, tmp_path / "run", max_epochs=4)
    config["data"]["pronunciations"] = str(dictionary)
    config["model"]["phone_crf"] = crf
    run(config, tmp_path)
    losses = metrics(tmp_path / "run", "train/phone_loss")
    assert losses[-1] < losses[0] / 2
    losses = metrics(tmp_path / "run", "val/phone_loss")
    assert len(losses) == 4 and losses[-1] < losses[0]
    rates = metrics(tmp_path / "run", "val/per")
    assert len(rates) == 4 and min(rates) < max(rates)
    model = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert model.phone_tokenizer.phones == ("AA", "BB", "CC", "DD")


def test_words_without_pronunciation_are_one_line(corpus, tmp_path):
    (tmp_path / "few.txt").write_text("A AA1\n")
    config = settings(corpus, tmp_path / "run")
    config["data"]["pronunciations"] = str(tmp_path / "few.txt")
    done = subprocess.run(
        command(config, tmp_path), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "few.txt: lacks " in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def phone_module(**options):
    torch.manual_seed(0)
    features = FeatureConfig(n_mels=8)
    encoder = EncoderConfig(hidden_size=8, num_layers=1, conv_channels=2)
    module = CtcModule(features, encoder, ALPHABET, ("AA", "BB"), **options)
    module.log = lambda *_, **__: None
    module.trainer = SimpleNamespace(current_epoch=0, global_rank=0, datamodule=None)
    return module


def phone_batch():
    return Batch(
        features=torch.randn(2, 64, 8),
        feature_lengths=torch.tensor([64, 40]),
        targets=torch.tensor([[2, 3, 2], [2, 0, 0]]),
        target_lengths=torch.tensor([3, 1]),
        phones=torch.tensor([[2, 1, 3], [3, 0, 0]]),
        phone_lengths=torch.tensor([3, 1]),
        indices=torch.tensor([0, 1]),
    )


def test_a_gradient_that_is_not_finite_changes_no_weight():
    module = phone_module(clip_norm=0.5)
    vars(module.trainer).update(precision="32-true", estimated_stepping_batches=10, global_step=3)
    [optimizer], _ = module.configure_optimizers()
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.configure_gradient_clipping(optimizer)
    norm = torch.stack([parameter.grad.norm() for parameter in module.parameters()]).norm()
    assert norm == pytest.approx(0.5, rel=1e-3)
    module.model.output.weight.grad.fill_(float("nan"))
    before = [parameter.clone() for parameter in module.parameters()]
    with pytest.warns(Warning, match="step 3 left out"):
        module.configure_gradient_clipping(optimizer)
    optimizer.step()
    assert all(map(torch.equal, before, module.parameters()))
    assert module.skipped_steps == 1


def test_the_learning_rate_rises_and_falls():
    module = phone_module(lr=1.0, warmup=0.2)
    vars(module.trainer).update(precision="32-true", estimated_stepping_batches=20)
    [optimizer], [schedule] = module.configure_optimizers()
    rates = []
    for _ in range(21):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert schedule["interval"] == "step"
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert (rates[12], rates[20]) == pytest.approx((0.5, 0))


def test_features_are_masked_in_training():
    batch = phone_batch()
    configs = SpecAugmentConfig(frequency_masks=0, time_masks=0), SpecAugmentConfig()
    losses = [phone_module(spec_augment=config).training_step(batch, 0) for config in configs]
    assert losses[0] != losses[1]


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for at, step in enumerate((4, 8, 12)):
        path = folder / f"last-step={step}.ckpt"
        torch.save({"step": step}, path)
        if step == 12:
            path.write_bytes(path.read_bytes()[:100])
        os.utime(path, (at, at))
    with pytest.warns(Warning, match=r"last-step=12\.ckpt: damaged checkpoint passed over"):
        assert newest_checkpoint(tmp_path) == folder / "last-step=8.ckpt"


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_weight_of_phones_shares_out_the_loss(weight):
    module = phone_module(phone_weight=weight)
    module.training_step(phone_batch(), 0).backward()
    assert bool(module.model.output.weight.grad.any()) == (weight < 1)
    assert bool(module.model.phone_output.weight.grad.any()) == (weight > 0)


@pytest.mark.parametrize(
    ("name", "value"), [("phone_weight", 1.5), ("warmup", -0.1), ("warmup", 2), ("clip_norm", 0)]
)
def test_numbers_with_which_nothing_is_learnt_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} {value} (is not in 0\.\.1|would stop)"):
        phone_module(**{name: value})


def test_utterances_without_a_finite_loss_are_counted_in_each_epoch_and_named_once(recwarn):
    module = phone_module()
    utterances = [SimpleNamespace(id=name) for name in ("whole", "short")]
    train_set = SimpleNamespace(utterances=utterances)
    module.trainer = SimpleNamespace(
        current_epoch=0, global_rank=0, datamodule=SimpleNamespace(train_set=train_set)
    )
    phones = torch.tensor([[2, 1, 3] * 4] * 2)
    batch = phone_batch()._replace(phones=phones, phone_lengths=torch.tensor([3, 12]))
    for _ in range(2):  # 10 frames hold no 12 phones
        module.on_train_epoch_start()
        module.training_step(batch, 0)
        assert module.lost_in_epoch == 1
    assert [str(w.message).endswith("too few frames for the text: short") for w in recwarn] == [
        True
    ]


def test_a_run_goes_on_with_the_rates_of_now():
    def rates(module, checkpoint=None):
        module.trainer = SimpleNamespace(
            callbacks=[],
            precision="32-true",
            estimated_stepping_batches=20,
            datamodule=SimpleNamespace(val_set=SimpleNamespace(utterances=[])),
        )
        [optimizer], [schedule] = module.configure_optimizers()
        states = {"optimizer_states": optimizer, "lr_schedulers": schedule["scheduler"]}
        if checkpoint:
            module.on_load_checkpoint(checkpoint)
            for name, part in states.items():
                part.load_state_dict(checkpoint[name][0])
        else:
            optimizer.step()
            schedule["scheduler"].step()
            checkpoint = {name: [part.state_dict()] for name, part in states.items()}
            module.on_save_checkpoint(checkpoint)
        found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        optimizer.step()
        schedule["scheduler"].step()
        return checkpoint, found + [group["lr"] for group in optimizer.param_groups]

    before, _ = rates(phone_module(lr=0.5, weight_decay=0.25))
    _, expected = rates(phone_module(lr=0.125, weight_decay=0.0))
    _, resumed = rates(phone_module(lr=0.125, weight_decay=0.0), before)
    assert resumed == expected


def test_the_crf_compares_with_all_phones_but_not_for_an_utterance_too_short():
    module = phone_module(phone_crf=True)
    batch = phone_batch()
    encoded = torch.randn(2, 16, 16)
    plain = module._phone_losses(encoded, torch.tensor([16, 10]), batch)
    trigram = phone_trigram([[2, 1, 3], [3]], 4)
    module.denominator = Denominator(trigram)
    lengths = torch.tensor([16, 0])
    losses = module._phone_losses(encoded, lengths, batch)
    total = module.denominator(module.model.phones(encoded), lengths)
    torch.testing.assert_close(losses[0], (1 + CTC_SHARE) * plain[0] + total[0])
    assert losses[1] == 0
    with pytest.raises(ConfigError, match="phone_crf wants phones"):
        CtcModule(phone_crf=True)


def test_phones_start_from_a_bundle_of_the_same_ones_alone(tmp_path):
    features = FeatureConfig(n_mels=8)
    encoder = EncoderConfig(hidden_size=8, num_layers=1, conv_channels=2)
    source = CtcModel(features, encoder, ALPHABET, ("AA", "BB"))
    save_bundle(tmp_path / "a.asr", source, DecoderConfig(), "", precision="float32")
    for phones in ((), ("AA", "BB"), ("AA", "CC")):
        start = str(tmp_path / "a.asr")
        told = pytest.warns(UserWarning, match=r"a\.asr: its phones are left out")
        with nullcontext() if phones else told:
            module = CtcModule(features, encoder, ALPHABET, phones, init_from=start)
        weights = module.model.state_dict()
        torch.testing.assert_close(weights["output.weight"], source.output.weight)
        if phones:
            same = torch.equal(weights["phone_output.weight"], source.phone_output.weight)
            assert same == (phones == ("AA", "BB"))


def test_a_missing_bundle_to_start_from_is_one_line(corpus, tmp_path):
    config = settings(corpus, tmp_path / "run") | {"init_from": str(tmp_path / "none.asr")}
    done = subprocess.run(
        command(config, tmp_path), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("train: error: ")
    assert "none.asr: no such model" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("encoder", [{"hidden_size": 16}, {"subsampling": 2}])
def test_a_run_folder_of_another_model_is_one_line(corpus, uninterrupted, tmp_path, encoder):
    shutil.copytree(uninterrupted / "checkpoints", tmp_path / "run" / "checkpoints")
    config = settings(corpus, tmp_path / "run", max_epochs=50)
    config["model"]["encoder"] |= encoder  # the second has weights of the same shapes
    done = subprocess.run(
        command(config, tmp_path), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("train: error: ") and "another model" in last
    assert "Traceback" not in done.stderr


def resumed(module, checkpoint, text="A"):
    """Return what a run that goes on with one text to validate on writes in its checkpoints."""
    val_set = SimpleNamespace(utterances=[SimpleNamespace(id="1", text=text)])
    module.trainer = SimpleNamespace(callbacks=[], datamodule=SimpleNamespace(val_set=val_set))
    module.on_load_checkpoint(checkpoint)
    module.on_save_checkpoint(saved := {"optimizer_states": [], "lr_schedulers": []})
    return saved


def test_a_run_that_began_from_another_bundle_is_refused(tmp_path):
    starts = [None]
    for number in (1, 2):
        starts.append(str(tmp_path / f"{number}.asr"))
        model = phone_module().model
        model.output.bias.data.fill_(number)
        save_bundle(starts[-1], model, DecoderConfig(), "# Start\n")
    old = {"optimizer_states": [], "lr_schedulers": [], "asr": phone_module()._settings()}
    checkpoints = [resumed(phone_module(init_from=start), old) for start in starts]
    for start, other in itertools.product(starts, starts):
        checkpoint = checkpoints[starts.index(other)]
        told = pytest.raises(ConfigError, match="began from another --init_from")
        with nullcontext() if start == other else told:
            resumed(phone_module(init_from=start), checkpoint)
    save_bundle(starts[-1], model, DecoderConfig(method="beam"), "# Tuned\n")
    resumed(phone_module(init_from=starts[-1]), checkpoints[-1])  # the same weights


def test_other_data_to_validate_on_are_told(recwarn):
    old = {"optimizer_states": [], "lr_schedulers": [], "asr": phone_module()._settings()}
    checkpoint = resumed(phone_module(), old)
    resumed(phone_module(), checkpoint)
    assert not recwarn.list
    resumed(phone_module(), checkpoint, "B")
    [warning] = recwarn
    assert str(warning.message).startswith("validated on other data than before")


@pytest.mark.filterwarnings("ignore")  # of Lightning's command line, about jsonargparse
@pytest.mark.parametrize(
    ("trainer", "line"),
    [
        ({"max_epochs": 5, "check_val_every_n_epoch": 2}, "max_epochs 5 is no multiple .* 6$"),
        ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch 0: .* a number from 1$"),
        ({"max_epochs": -1}, "max_epochs -1: .* a number from 1$"),
        ({"max_steps": 5}, "max_steps ends between two validations"),
        ({"val_check_interval": 4}, "val_check_interval 4: .*limit_train_batches"),
        ({"val_check_interval": 1}, "val_check_interval 1: .*limit_train_batches"),
        ({"gradient_clip_val": 1.0}, "gradient_clip_val has no effect .* --model.clip_norm$"),
        ({"precision": "bf16-true"}, "precision bf16-true cannot train; take 32-true"),
    ],
)
def test_settings_of_the_trainer_that_cannot_work_are_refused(
    corpus, tmp_path, monkeypatch, trainer, line
):
    config = settings(corpus, tmp_path / "run", **trainer)
    monkeypatch.setattr(sys, "argv", command(config, tmp_path)[-3:])
    with pytest.raises(ConfigError, match=line):
        train()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("trainer", "model", "line"),
    [
        ({}, {"native_lstm": True}, "native_lstm wants .* bf16-mixed"),
        ({"devices": -1}, {}, "--trainer: `devices` selected .* int > 0"),
    ],
)
def test_settings_that_cannot_work_are_one_line(corpus, tmp_path, trainer, model, line):
    config = settings(corpus, tmp_path / "run", **trainer)
    config["model"] |= model
    done = subprocess.run(
        command(config, tmp_path), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert re.match(f"train: error: .*{line}", done.stderr.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"run_dir": "blocked/run"}, "train: error: .*Not a directory: .*blocked/run"),
        ({"checkpoint": {"every_n_epochs": 1}}, "train: error: .*every_n_epochs"),
    ],
    ids=["run_dir", "checkpoint"],
)
def test_what_lightning_or_the_system_refuses_is_one_line(corpus, tmp_path, change, line):
    (tmp_path / "blocked").touch()
    config = settings(corpus, tmp_path / "run", max_epochs=1) | change
    done = subprocess.run(
        command(config, tmp_path),
        env=ENVIRONMENT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert re.match(line, done.stderr.strip().splitlines()[-1])
    assert "Traceback" not in done.stderr


@needs_kernel
def test_training_through_the_native_kernel_learns_as_well(corpus, tmp_path):
    losses = []
    for native_lstm in (False, True):
        config = settings(corpus, tmp_path / str(native_lstm), precision="bf16-mixed")
        config["model"]["native_lstm"] = native_lstm
        config["model"]["encoder"]["hidden_size"] = 64
        run(config, tmp_path)
        losses.append(metrics(config["run_dir"], "val/loss")[-1])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_a_misspelt_option_is_named_without_a_page_of_options(corpus, tmp_path):
    arguments = [
        *command(settings(corpus, tmp_path / "run"), tmp_path),
        "--model.encoder.sell",
        "gru",
    ]
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "sell" in done.stderr
    assert len(done.stderr.strip().splitlines()) < 8


def test_when_a_training_fails_so_do_the_processes_that_it_started(monkeypatch, tmp_path):
    """Or the others would wait for the first, and hold their GPUs, for half an hour."""
    killed = []

    def fit(*_, **__):
        raise OSError("no space left on device")

    strategy = SimpleNamespace(launcher=SimpleNamespace(kill=killed.append))
    trainer = SimpleNamespace(fit=fit, strategy=strategy)
    cli = SimpleNamespace(
        config=SimpleNamespace(run_dir=tmp_path), trainer=trainer, model=None, datamodule=None
    )
    monkeypatch.setattr(training, "TrainingCLI", lambda *_, **__: cli)
    with pytest.raises(OSError, match="no space left"):
        train([])
    assert killed == [signal.SIGKILL]


def test_the_first_figures_of_speed_leave_the_start_out(monkeypatch):
    now = iter([0.0, 100.0, 101.0, 104.0])  # made, begun, a batch got, the batch done
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(now))
    logged = {}
    features = SimpleNamespace(frame_seconds=0.01)
    module = SimpleNamespace(
        model=SimpleNamespace(features_config=features),
        log=lambda name, value, **_: logged.update({name: value}),
    )
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    trainer = SimpleNamespace(
        world_size=1, global_step=1, log_every_n_steps=1, optimizers=[optimizer]
    )
    batch = SimpleNamespace(feature_lengths=torch.tensor([1000]))
    meter = training.Meter()
    meter.on_train_start(trainer, module)
    meter.on_train_batch_start(trainer, module, batch, 0)
    meter.on_train_batch_end(trainer, module, None, batch, 0)
    assert logged["train/audio_seconds_per_second"] == pytest.approx(10 / 4)
    assert logged["train/data_wait_share"] == pytest.approx(1 / 4)

    trainer.log_every_n_steps = 0  # nothing is logged
    logged.clear()
    monkeypatch.setattr(training.time, "perf_counter", lambda: 105.0)
    meter.on_train_batch_end(trainer, module, None, batch, 0)
    assert not logged

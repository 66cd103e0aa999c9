"""A bundle gives back the same model, and anything else a clear error."""

import errno
import io
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.bundle import Precision, load_bundle, save_bundle
from asr.checkpoint import best_checkpoints, load_average, load_checkpoint
from asr.decoding.config import DecoderConfig
from asr.errors import BundleError
from asr.features import FeatureConfig
from asr.lm.kenlm_binary import MAGIC
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig
from asr.quantisation import quantise, restore

FEATURES = FeatureConfig(n_mels=8, normalisation="global")
ENCODER = EncoderConfig(hidden_size=8, num_layers=1, conv_channels=2)


@pytest.fixture
def model() -> CtcModel:
    torch.manual_seed(0)
    return CtcModel(FEATURES, ENCODER, " 'ABÉ").eval()


@pytest.fixture
def path(tmp_path: Path, model: CtcModel) -> Path:
    """Return a bundle of ``model`` in single precision."""
    path = tmp_path / "model.asr"
    save_bundle(path, model, DecoderConfig(), "# Card — ok\n", precision="float32")
    return path


def log_probs(model: CtcModel) -> Tensor:
    waveforms = torch.randn(2, 8000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model.log_probs_of(waveforms, torch.tensor([8000, 5000]))[0]


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, **changed: bytes | None) -> None:
    """Write a bundle anew with members changed or, with ``None``, left out."""
    names = {"config": "bundle.json", "weights": "weights.safetensors", "card": "MODEL_CARD.md"}
    content = members(path) | {names[key]: value for key, value in changed.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            if value is not None:
                archive.writestr(name, value)


def change_config(path: Path, **values: Any) -> None:
    config = json.loads(members(path)["bundle.json"])
    rewrite(path, config=json.dumps(config | values).encode())


def change_weights(path: Path, **values: Tensor | None) -> None:
    weights = safetensors.torch.load(members(path)["weights.safetensors"]) | values
    kept = {name: tensor for name, tensor in weights.items() if tensor is not None}
    rewrite(path, weights=safetensors.torch.save(kept))


def test_single_precision_gives_the_same_outputs(path: Path, model: CtcModel) -> None:
    bundle = load_bundle(path)
    assert torch.equal(log_probs(bundle.model), log_probs(model))
    assert bundle.model.features_config == FEATURES
    assert bundle.model.encoder_config == ENCODER
    assert bundle.model.tokenizer.alphabet == " 'ABÉ"
    assert bundle.decoder == DecoderConfig()
    assert bundle.card == "# Card — ok\n"
    assert bundle.path == path
    assert not bundle.model.training


def test_half_precision_equals_rounded_weights(path: Path, model: CtcModel) -> None:
    save_bundle(path, model, DecoderConfig(), "", precision="float16")
    loaded = load_bundle(path).model
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())
        assert loaded.state_dict()[name].dtype == torch.float32
    assert not torch.equal(log_probs(loaded), log_probs(model))
    model.load_state_dict(loaded.state_dict())
    assert torch.equal(log_probs(loaded), log_probs(model))


def test_eight_bits_are_close_and_a_quarter_of_the_size(path: Path) -> None:
    model = CtcModel(FEATURES, EncoderConfig(hidden_size=64, num_layers=2), " AB").eval()
    save_bundle(path, model, DecoderConfig(), "", precision="float32")
    whole = path.stat().st_size
    save_bundle(path, model, DecoderConfig(), "", precision="int8")
    loaded = load_bundle(path).model
    weights = restore(quantise(model.state_dict()))
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, weights[name].float()) and tensor.dtype == torch.float32
    torch.testing.assert_close(log_probs(loaded), log_probs(model), rtol=0.02, atol=0.02)
    assert path.stat().st_size < 0.3 * whole


@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_model_keeps_the_precision_that_it_was_stored_in(
    path: Path, model: CtcModel, precision: Precision
) -> None:
    save_bundle(path, model, DecoderConfig(), "", precision=precision)
    before = path.read_bytes()
    bundle = load_bundle(path)
    assert bundle.precision == precision
    bundle.save(path)
    assert path.read_bytes() == before


def test_statistics_travel_with_the_weights(path: Path, model: CtcModel) -> None:
    model.normalisation.set_statistics(torch.arange(8.0), torch.arange(1.0, 9.0))
    save_bundle(path, model, DecoderConfig(), "", precision="float32")
    assert torch.equal(log_probs(load_bundle(path).model), log_probs(model))


def test_language_and_character_model_travel_along(path: Path, model: CtcModel) -> None:
    assert load_bundle(path).language_model is load_bundle(path).character_model is None
    save_bundle(path, model, DecoderConfig(), "", language_model=b"n-grams", character_model=b"x")
    bundle = load_bundle(path)
    assert (bundle.language_model, bundle.character_model) == (b"n-grams", b"x")
    assert zipfile.ZipFile(path).namelist()[3:] == ["lm.arpa.gz", "char_lm.safetensors"]
    binary = MAGIC + b"n-grams" * 9
    sounds = b"THE DH AH" * 9
    save_bundle(path, model, DecoderConfig(), "", language_model=binary, pronunciations=sounds)
    assert load_bundle(path).pronunciations == sounds
    stored = zipfile.ZipFile(path).infolist()[3:]
    assert [file.filename for file in stored] == ["lm.klm", "pronunciations.safetensors"]
    assert all(file.compress_size < file.file_size for file in stored)
    with load_bundle(path).language_model_file() as file:
        assert file is not None and file.read_bytes() == binary
    save_bundle(path, model, DecoderConfig(), "", character_model=b"x")
    bundle = load_bundle(path)
    assert (bundle.language_model, bundle.character_model) == (None, b"x")


def test_the_same_model_gives_the_same_bytes(path: Path, model: CtcModel, tmp_path: Path) -> None:
    save_bundle(
        tmp_path / "again.asr", model, DecoderConfig(), "# Card — ok\n", precision="float32"
    )
    assert (tmp_path / "again.asr").read_bytes() == path.read_bytes()


def test_older_bundles_lack_newer_settings(path: Path) -> None:
    encoder = {key: value for key, value in asdict(ENCODER).items() if key != "dropout"}
    change_config(path, encoder=encoder)
    assert load_bundle(path).model.encoder_config == ENCODER
    change_config(path, format_version=1, decoder={"method": "beam", "beam_width": 7})
    assert load_bundle(path).decoder == DecoderConfig("beam", beam_width=7)
    config = json.loads(members(path)["bundle.json"])
    del config["phones"]
    rewrite(path, config=json.dumps(config | {"format_version": 3}).encode())
    assert load_bundle(path).model.phone_tokenizer is None


@pytest.mark.parametrize("precision", get_args(Precision))
def test_an_output_of_phones_is_kept(precision: Precision, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CtcModel(FEATURES, ENCODER, " AB", ("AH", "NG")).eval()
    save_bundle(tmp_path / "model.asr", model, DecoderConfig(), "", precision=precision)
    again = load_bundle(tmp_path / "model.asr").model
    assert again.phone_tokenizer is not None
    assert again.phone_tokenizer.phones == ("AH", "NG")
    encoded = torch.randn(2, 5, ENCODER.output_size)
    torch.testing.assert_close(again.phones(encoded), model.phones(encoded), rtol=0, atol=0.02)
    assert again.phones(encoded).shape == (2, 5, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 5}, "has format 5, this version reads up to 4; upgrade asr"),
        ({"phones": "AH"}, "its phones are not a list"),
        ({"phones": ["AH", 3]}, "3 is no name of a phone"),
        ({"format_version": "1"}, "has format '1'"),
        ({"beam": 1}, "unknown key 'beam'"),
        ({"alphabet": 3}, "alphabet is not a text"),
        ({"alphabet": "AA"}, "each character once"),
        ({"features": []}, "FeatureConfig are not an object"),
        ({"features": {"n_mel": 8}}, "unknown setting 'n_mel' of FeatureConfig; upgrade"),
        ({"features": {"n_mels": "8"}}, "'8' is no value for n_mels"),
        ({"features": {"n_mels": True}}, "True is no value for n_mels"),
        ({"features": {"f_max": 1e5}}, "exceeds half"),
        ({"features": asdict(FEATURES) | {"sample_rate": 0}}, r"sample_rate 0 is not in 1\.\."),
        ({"features": asdict(FEATURES) | {"hop_length": 0}}, r"hop_length 0 is not in 1\.\."),
        ({"features": asdict(FEATURES) | {"n_fft": 10**30}}, r"n_fft 10+ is not in 1\.\."),
        ({"features": asdict(FEATURES) | {"log_floor": 0.0}}, "log_floor 0.0 is not above 0"),
        ({"encoder": {"cell": "transformer"}}, "'transformer' is no value for cell"),
        ({"encoder": {"hidden_size": 0}}, r"hidden_size 0 is not in 1\.\."),
        ({"encoder": {"num_layers": 10**9}}, r"num_layers 10+ is not in 1\.\."),
        ({"encoder": {"hidden_size": 9, "num_layers": 1}}, "have the shape"),
        ({"encoder": asdict(ENCODER) | {"num_layers": 2}}, "lacks weights"),
        ({"decoder": {"method": "oracle"}}, "'oracle' is no value for method"),
        ({"decoder": None}, "DecoderConfig are not an object"),
    ],
)
def test_wrong_settings_are_refused(path: Path, changes: dict[str, Any], message: str) -> None:
    change_config(path, **changes)
    assert_refused(path, message)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b'{"alphabet": ""}', b"\xff\xfe", b"[" * 100_000 + b"]" * 100_000],
    ids=lambda content: content[:20].decode("latin-1"),
)
def test_a_malformed_configuration_is_refused(path: Path, content: bytes) -> None:
    rewrite(path, config=content)
    assert_refused(path, "no bundle configuration")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output.bias": None}, "lacks weights 'output.bias'"),
        ({"extra": torch.zeros(1)}, "has the unknown weights 'extra'"),
        ({"output.bias": torch.zeros(7)}, r"'output.bias' have the shape \(7,\).* say \(6,\)"),
        ({"output.bias": torch.full((6,), torch.nan)}, "'output.bias' are not finite"),
        ({"output.bias": torch.tensor([0, 0, 0, 0, 0, torch.inf])}, "not finite"),
        ({"output.bias": torch.zeros(6, dtype=torch.int64)}, "torch.int64"),
        ({"output.bias": torch.full((6,), torch.nan).to(torch.float8_e4m3fn)}, "not finite"),
        ({"output.bias": torch.full((6,), 1e300, dtype=torch.float64)}, "not finite"),
        ({"output.bias.scales": torch.ones(6)}, "'output.bias' have no scale for each row"),
        ({"output.weight.scales": torch.ones(7)}, "'output.weight' have no scale for each row"),
        ({"output.weight.scales": torch.ones(6)}, "'output.weight' have no scale for each row"),
        ({"lost.scales": torch.ones(6)}, "has the unknown weights 'lost.scales'"),
    ],
)
def test_wrong_weights_are_refused(
    path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    change_weights(path, **changes)
    assert_refused(path, message)


def test_a_scale_that_is_no_number_is_refused(path: Path, model: CtcModel) -> None:
    save_bundle(path, model, DecoderConfig(), "", precision="int8")
    change_weights(path, **{"output.weight.scales": torch.full((6,), torch.nan)})
    assert_refused(path, "'output.weight' are not finite")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.asr", "no such model")


def test_other_files_are_no_bundles(tmp_path: Path, path: Path) -> None:
    assert_refused(tmp_path, "cannot read|not a model")
    other = tmp_path / "other.asr"
    for content in (b"", b"RIFF" * 100):
        other.write_bytes(content)
        assert_refused(other, "not a model bundle")
    rewrite(path, card=None)
    assert_refused(path, "lacks a part.*MODEL_CARD.md")
    rewrite(path, card=b"", weights=b"junk")
    assert_refused(path, "eader")


def test_a_pickle_is_not_read(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({}, buffer)
    path.write_bytes(buffer.getvalue())
    assert_refused(path, "lacks a part")


def test_every_cut_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for size in [2, 30, 100, len(content) // 2, len(content) - 100, len(content) - 1]:
        path.write_bytes(content[:size])
        assert_refused(path, "damaged or cut short")


def test_a_changed_weight_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_refused(path, "CRC")


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_changed_byte_is_noticed_or_harmless(path: Path, model: CtcModel, data: Any) -> None:
    content = path.read_bytes()
    damaged = bytearray(content)
    # Names, sizes and offsets stand in the last few hundred bytes and the first.
    place = st.integers(0, 200) | st.integers(len(content) - 400, len(content) - 1)
    damaged[data.draw(place)] = data.draw(st.integers(0, 255))
    other = path.with_name("damaged.asr")
    other.write_bytes(damaged)
    try:
        loaded = load_bundle(other).model
    except BundleError as error:
        assert "\n" not in str(error)
    else:
        assert torch.equal(log_probs(loaded), log_probs(model))


@pytest.mark.parametrize(
    ("value", "precision"),
    [(torch.nan, "float32"), (torch.inf, "float16"), (1e5, "float16"), (1e5, "int8")],
)
def test_weights_that_cannot_be_stored_leave_the_old_file(
    path: Path, model: CtcModel, value: float, precision: Precision
) -> None:
    before = path.read_bytes()
    with torch.no_grad():
        model.output.bias[0] = value
    with pytest.raises(BundleError, match=r"output\.bias"):
        save_bundle(path, model, DecoderConfig(), "", precision=precision)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_unwritable_place_is_named(path: Path, model: CtcModel) -> None:
    with pytest.raises(BundleError, match="cannot write"):
        save_bundle(path / "inside.asr", model, DecoderConfig(), "")


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def checkpoint_of(model: CtcModel) -> dict[str, Any]:
    return {
        "asr": {
            "alphabet": model.tokenizer.alphabet,
            "features": asdict(model.features_config),
            "encoder": asdict(model.encoder_config),
        },
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "epoch": 3,
    }


def test_a_checkpoint_gives_its_model(tmp_path: Path, model: CtcModel) -> None:
    torch.save(checkpoint_of(model), tmp_path / "last.ckpt")
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(log_probs(loaded), log_probs(model))


MADE: list[bool] = []


def betray() -> dict[str, object]:
    MADE.append(True)
    return {}


class Unwelcome:
    """Something that only a full unpickler would make."""

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return betray, ()


@pytest.mark.parametrize(
    "content", [{}, [], {"asr": 3, "state_dict": {}}, {"asr": Unwelcome(), "state_dict": {}}]
)
def test_other_checkpoints_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(BundleError, match="not a checkpoint") as caught:
        load_checkpoint(tmp_path / "other.ckpt")
    assert "\n" not in str(caught.value)
    assert not MADE


def test_a_full_disk_spares_the_older_bundle(
    tmp_path: Path, model: CtcModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "model.asr"
    path.write_bytes(b"old")
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(BundleError, match="No space left"):
        save_bundle(path, model, DecoderConfig(), "# Card\n")
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("part", "message"), [("asr", "alphabet"), ("state_dict", "lacks weights")]
)
def test_incomplete_checkpoints_are_refused(
    tmp_path: Path, model: CtcModel, part: str, message: str
) -> None:
    torch.save(checkpoint_of(model) | {part: {}}, tmp_path / "last.ckpt")
    with pytest.raises(BundleError, match=message):
        load_checkpoint(tmp_path / "last.ckpt")


def test_damaged_and_missing_checkpoints_are_refused(tmp_path: Path, model: CtcModel) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(BundleError, match="no such checkpoint"):
        load_checkpoint(path)
    torch.save(checkpoint_of(model), path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BundleError, match="damaged"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(BundleError, match="damaged"):
        load_checkpoint(path)


def test_the_best_checkpoints_have_the_lowest_error_rates_the_last_of_equals_first(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(BundleError, match="no best checkpoint here"):
        best_checkpoints(tmp_path)
    names = ["best-100-wer0.0200-v1", "best-9-wer0.0200", "best-200-wer1.0000"]
    for name in ("last", *reversed(names)):
        (folder / f"{name}.ckpt").touch()
    assert [path.stem for path in best_checkpoints(tmp_path)] == names


def test_an_epoch_saved_twice_is_one_of_the_best_once_as_it_was_saved_last(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("8-wer0.1", "8-wer0.1-v9", "8-wer0.1-v10", "8-wer0.2", "9-wer0.1"):
        (tmp_path / "checkpoints" / f"best-{name}.ckpt").touch()
    names = [path.stem for path in best_checkpoints(tmp_path)]
    assert names == ["best-9-wer0.1", "best-8-wer0.1-v10", "best-8-wer0.2"]


def test_checkpoints_have_a_mean(tmp_path: Path, model: CtcModel) -> None:
    paths = []
    for number in range(3):
        for weight in model.parameters():
            torch.nn.init.constant_(weight, 2.0**number)
        paths.append(tmp_path / f"{number}.ckpt")
        torch.save(checkpoint_of(model), paths[-1])
    for weight in load_average(paths).parameters():
        torch.testing.assert_close(weight, torch.full_like(weight, 7 / 3))
    settings = {"dropout": 0.5}, {"subsampling": 2}  # of which the first is not of the weights
    for change, told in zip(settings, (False, True), strict=True):
        other = checkpoint_of(model)
        other["asr"]["encoder"] |= change
        torch.save(other, paths[1])
        message = f"{paths[1]}: is of another model than {paths[0]}"
        with pytest.raises(BundleError, match=message) if told else nullcontext():
            load_average(paths)

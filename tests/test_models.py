"""The encoder and the CTC model: exact masking, and the recurrences of torch as oracle."""

import dataclasses
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from asr.errors import ConfigError
from asr.features import FeatureConfig
from asr.models.ctc import CtcModel
from asr.models.encoder import Encoder, EncoderConfig, MaskedConv
from asr.models.recurrent import (
    Cell,
    LockedDropout,
    RecurrentBlock,
    RecurrentLayer,
    make_cell,
    reversal_index,
    reverse,
)

CELLS = get_args(Cell)
FEATURES = FeatureConfig(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=10)
SMALL = EncoderConfig(hidden_size=12, num_layers=2, conv_channels=4, dropout=0.1)
GARBAGE = 1e3


def make_model(**changes: Any) -> CtcModel:
    """Return a small model in evaluation mode, always with the same weights."""
    torch.manual_seed(0)
    return CtcModel(FEATURES, dataclasses.replace(SMALL, **changes), "ABCD").eval()


def make_waveforms(lengths: list[int], padding: int = 0) -> Tensor:
    """Return (batch, time) noise; what stands beyond a length is much louder."""
    generator = torch.Generator().manual_seed(sum(lengths))
    waveforms = GARBAGE * torch.randn(len(lengths), max(lengths) + padding, generator=generator)
    for waveform, length in zip(waveforms, lengths, strict=True):
        waveform[:length] /= 10 * GARBAGE
    return waveforms


def assert_same_alone_and_in_a_batch(model: CtcModel, lengths: list[int], padding: int) -> None:
    waveforms = make_waveforms(lengths, padding)
    with torch.no_grad():
        log_probs, frames = model.log_probs_of(waveforms, torch.tensor(lengths))
        for i, length in enumerate(lengths):
            alone, [n] = model.log_probs_of(waveforms[i : i + 1, :length], torch.tensor([length]))
            assert frames[i] == n == alone.shape[1]
            torch.testing.assert_close(log_probs[i, :n], alone[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("subsampling", [2, 3, 4])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_batch_mates_and_padding_change_nothing(
    cell: Cell, bidirectional: bool, subsampling: Any
) -> None:
    model = make_model(cell=cell, bidirectional=bidirectional, subsampling=subsampling)
    assert_same_alone_and_in_a_batch(model, [8000, 4321, 80, 1, 5999], padding=1234)


@settings(max_examples=40, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    subsampling=st.sampled_from([2, 3, 4]),
    normalisation=st.sampled_from(["utterance", "global", "none"]),
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    padding=st.integers(0, 2000),
)
def test_no_length_is_special(
    cell: Cell, subsampling: Any, normalisation: Any, lengths: list[int], padding: int
) -> None:
    torch.manual_seed(0)
    features = dataclasses.replace(FEATURES, normalisation=normalisation)
    encoder = dataclasses.replace(SMALL, cell=cell, subsampling=subsampling)
    model = CtcModel(features, encoder, "ABCD").eval()
    assert_same_alone_and_in_a_batch(model, lengths, padding)


@pytest.mark.parametrize("subsampling", [2, 3, 4])
def test_output_lengths_are_frames_over_subsampling_rounded_up(subsampling: Any) -> None:
    config = dataclasses.replace(SMALL, subsampling=subsampling)
    encoder = Encoder(10, config)
    for frames in range(1, 26):
        encoded, [length] = encoder(torch.zeros(1, frames, 10), torch.tensor([frames]))
        expected = (frames + subsampling - 1) // subsampling
        assert config.output_length(frames) == length == encoded.shape[1] == expected
    assert encoded.shape[2] == config.output_size == 24


@pytest.mark.parametrize("subsampling", [2, 3, 4])
def test_frame_seconds_count_the_output_frames(subsampling: Any) -> None:
    model = make_model(subsampling=subsampling)
    assert model.frame_seconds == pytest.approx(0.01 * subsampling)
    log_probs, _ = model.log_probs_of(torch.zeros(1, 80_000), torch.tensor([80_000]))
    assert log_probs.shape[1] * model.frame_seconds == pytest.approx(10, abs=0.05)


@pytest.mark.parametrize("subsampling", [2, 3, 4])
def test_every_frame_is_heard(subsampling: Any) -> None:
    torch.manual_seed(0)
    encoder = Encoder(10, dataclasses.replace(SMALL, subsampling=subsampling))
    features = torch.randn(1, 25, 10, requires_grad=True)
    encoder.subsampling(features, torch.tensor([25]))[0].square().sum().backward()
    assert (features.grad.norm(dim=2) > 0).all()


def test_one_direction_hears_nothing_of_the_future() -> None:
    model = make_model(bidirectional=False)
    features = torch.randn(1, 100, 10)
    changed = features.clone()
    changed[:, 60:] = torch.randn(1, 40, 10)
    (before, _), (after, _) = (model(x, torch.tensor([100])) for x in (features, changed))
    # Through the convolutions, output frame k sees input frames up to 4 k + 3.
    same = ((before - after).abs().amax(dim=2) < 1e-6)[0]
    assert same.tolist() == [True] * 15 + [False] * 10


def test_both_directions_hear_everything() -> None:
    model = make_model(bidirectional=True, num_layers=1)
    features = torch.randn(1, 40, 10, requires_grad=True)
    log_probs, _ = model(features, torch.tensor([40]))
    log_probs[0, 5, 1].backward()
    assert (features.grad.norm(dim=2) > 0).all()


def test_the_reversal_is_its_own_inverse_and_leaves_padding_alone() -> None:
    lengths = torch.tensor([4, 1, 3])
    index = reversal_index(lengths, 5)
    assert index.tolist() == [[3, 2, 1, 0, 4], [0, 1, 2, 3, 4], [2, 1, 0, 3, 4]]
    x = torch.randn(3, 5, 2)
    assert torch.equal(reverse(x, index)[0, :4], x[0, :4].flip(0))
    assert torch.equal(reverse(reverse(x, index), index), x)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_equals_torchs_packed_recurrence(cell: Cell, bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer = RecurrentLayer(cell, 5, 7, bidirectional)
    options: dict[str, Any] = {"batch_first": True, "bidirectional": bidirectional}
    if cell.startswith("rnn_"):
        torchs = nn.RNN(5, 7, nonlinearity=cell.removeprefix("rnn_"), **options)
    else:
        torchs = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](5, 7, **options)
    weights = dict(layer.forwards.state_dict())
    if layer.backwards is not None:
        weights |= {f"{k}_reverse": v for k, v in layer.backwards.state_dict().items()}
    torchs.load_state_dict(weights)

    lengths = torch.tensor([3, 9, 1, 6])
    x = pad_sequence([torch.randn(n, 5) for n in lengths], batch_first=True)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(torchs(packed)[0], batch_first=True)
    actual = layer(x, reversal_index(lengths, x.shape[1]))
    for i, n in enumerate(lengths):
        torch.testing.assert_close(actual[i, :n], expected[i, :n], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_weights_start_orthogonal(cell: Cell) -> None:
    for gate in make_cell(cell, 5, 7).weight_hh_l0.detach().split(7):
        torch.testing.assert_close(gate @ gate.T, torch.eye(7))


def test_the_forget_gate_starts_open() -> None:
    lstm = make_cell("lstm", 5, 7)
    assert ((lstm.bias_ih_l0 + lstm.bias_hh_l0)[7:14] == 1).all()


def test_locked_dropout_holds_its_mask_over_time() -> None:
    torch.manual_seed(0)
    dropped = LockedDropout(0.4)(torch.ones(50, 6, 200))
    assert (dropped == dropped[:, :1]).all()  # over time
    assert not (dropped[1:] == dropped[:1]).all(dim=2).any()  # utterances differ
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 1 / 0.6]))
    assert (dropped == 0).float().mean() == pytest.approx(0.4, abs=0.02)


def test_dropout_rests_in_evaluation() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(LockedDropout(0.4).eval()(x), x)
    assert torch.equal(LockedDropout(0.0).train()(x), x)

    waveforms, lengths = make_waveforms([900, 500]), torch.tensor([900, 500])
    model = make_model(dropout=0.5)
    first, again = (model.log_probs_of(waveforms, lengths)[0] for _ in range(2))
    assert torch.equal(first, again)
    model.train()
    first, again = (model.log_probs_of(waveforms, lengths)[0] for _ in range(2))
    assert not torch.equal(first, again)


def test_a_block_adds_to_its_input() -> None:
    block = RecurrentBlock("gru", 6, bidirectional=True, dropout=0.0)
    x, index = torch.randn(2, 5, 12), reversal_index(torch.tensor([5, 3]), 5)
    expected = block.recurrent(nn.functional.layer_norm(x, (12,)), index)
    torch.testing.assert_close(block(x, index) - x, expected, rtol=1e-5, atol=1e-6)


def test_a_convolution_leaves_no_trace_in_the_padding() -> None:
    y, lengths = MaskedConv(1, 3, stride=(2, 2))(torch.randn(2, 1, 9, 8), torch.tensor([9, 4]))
    assert lengths.tolist() == [5, 2]
    assert (y[1, :, 2:] == 0).all() and (y[1, :, :2] != 0).any()


@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_comes_from_the_padding(cell: Cell) -> None:
    lengths = [3000, 1700]

    def gradients(waveforms: Tensor, lengths: list[int]) -> tuple[list[Tensor], Tensor]:
        """Of a loss over the valid frames, for the weights and for the waveforms."""
        model, waveforms = make_model(cell=cell), waveforms.clone().requires_grad_()
        log_probs, frames = model.log_probs_of(waveforms, torch.tensor(lengths))
        loss = sum(log_probs[i, :n, 1].sum() for i, n in enumerate(frames))
        *weights, waves = torch.autograd.grad(loss, [*model.parameters(), waveforms])
        return weights, waves

    waveforms = make_waveforms(lengths, padding=500)
    in_batch, of_waveforms = gradients(waveforms, lengths)
    for wave_gradient, length in zip(of_waveforms, lengths, strict=True):
        assert (wave_gradient[length:] == 0).all() and (wave_gradient[:length] != 0).any()
    alone = [gradients(waveforms[i : i + 1, :n], [n])[0] for i, n in enumerate(lengths)]
    for actual, *parts in zip(in_batch, *alone, strict=True):
        torch.testing.assert_close(actual, sum(parts), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_every_weight_learns(cell: Cell) -> None:
    model = make_model(cell=cell).train()
    log_probs, _ = model.log_probs_of(make_waveforms([4000]), torch.tensor([4000]))
    log_probs[..., 1].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", CELLS)
def test_log_probs_are_normalised_float32(cell: Cell, precision: torch.dtype) -> None:
    model = make_model(cell=cell)
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        log_probs, _ = model.log_probs_of(make_waveforms([3000, 900]), torch.tensor([3000, 900]))
    assert log_probs.dtype == torch.float32
    assert log_probs.shape == (2, 10, 5)
    torch.testing.assert_close(log_probs.logsumexp(dim=2), torch.zeros(2, 10), rtol=0, atol=1e-5)


def test_half_precision_stays_close() -> None:
    model, waveforms, lengths = make_model(), make_waveforms([3000]), torch.tensor([3000])
    exact, _ = model.log_probs_of(waveforms, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = model.log_probs_of(waveforms, lengths)
    assert 0 < (exact - rough).abs().max() < 0.1


def test_the_state_dict_holds_weights_and_statistics_only() -> None:
    model = make_model()
    names = {name for name, _ in model.named_parameters()}
    assert set(model.state_dict()) - names == {"normalisation.mean", "normalisation.std"}


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 0},
        {"num_layers": 0},
        {"conv_channels": 0},
        {"subsampling": 1},
        {"subsampling": 5},
        {"dropout": 1.0},
        {"dropout": -0.1},
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        EncoderConfig(**changes)


def test_a_length_beyond_the_tensor_is_refused() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="exceeds"):
        model.log_probs_of(torch.zeros(1, 100), torch.tensor([101]))
    with pytest.raises(ValueError, match="exceeds"):
        model(torch.zeros(1, 10, 10), torch.tensor([14]))


def test_on_a_gpu_cells_see_no_autocast_and_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = RecurrentLayer("lstm", 8, 6, bidirectional=True)
    seen = []

    def directions(x: Tensor, _: Tensor) -> Tensor:
        seen.append((x.dtype, torch.is_autocast_enabled("cuda")))
        return x

    monkeypatch.setattr(layer, "_directions", directions)
    with FakeTensorMode():  # no GPU is needed
        x = torch.empty(2, 5, 8, device="cuda", dtype=torch.bfloat16)
        torch.set_autocast_enabled("cuda", True)
        try:
            layer(x, torch.empty(2, 5, device="cuda", dtype=torch.long))
        finally:
            torch.set_autocast_enabled("cuda", False)
    assert seen == [(torch.float32, False)]

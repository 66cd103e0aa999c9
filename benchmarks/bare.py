"""The yardstick: a bare ``nn.LSTM`` with the CTC loss, and nothing around it."""

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss
from torch.optim import AdamW

from asr.data.dataset import Batch
from asr.models.encoder import EncoderConfig, Subsampling


class BareModel(nn.Module):
    """The layers of an encoder in the same sizes, without masks, norms, residuals and dropout.

    Padding is read as if it were speech, so results depend on batch-mates: a yardstick of speed
    alone.
    """

    def __init__(self, n_features: int, config: EncoderConfig, vocab: int) -> None:
        super().__init__()
        layers = Subsampling(n_features, config)
        self.convs = nn.Sequential(layers.conv1.conv, nn.ReLU(), layers.conv2.conv, nn.ReLU())
        self.project = layers.project
        self.lstm = nn.LSTM(
            config.output_size,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            bidirectional=config.bidirectional,
        )
        self.output = nn.Linear(config.output_size, vocab)

    def forward(self, features: Tensor) -> Tensor:
        """Return log_probs (batch, frames_out, vocab) of features (batch, frames, n_features)."""
        x = self.convs(features[:, None]).transpose(1, 2).flatten(2)
        x, _ = self.lstm(self.project(x))
        return self.output(x).float().log_softmax(dim=2)


class BareLoop:
    """Forward, CTC loss, backward, AdamW: the least that a training step can do."""

    def __init__(self, model: BareModel, subsampling: int, bf16: bool) -> None:
        self.model = model
        self.subsampling = subsampling
        self.bf16 = bf16
        self.optimizer = AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(self, batch: Batch) -> None:
        """Train on one batch."""
        with torch.autocast(batch.features.device.type, torch.bfloat16, enabled=self.bf16):
            log_probs = self.model(batch.features)
        lengths = -(-batch.feature_lengths // self.subsampling)
        loss = ctc_loss(
            log_probs.transpose(0, 1),
            batch.targets,
            lengths,
            batch.target_lengths,
            zero_infinity=True,
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

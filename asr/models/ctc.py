"""The whole acoustic model: front end, normalisation, encoder and CTC output layers."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asr.features import FeatureConfig, FeatureExtractor, Normalisation
from asr.models.encoder import Encoder, EncoderConfig
from asr.pronunciation import PhoneTokenizer
from asr.text import CharTokenizer


class CtcModel(nn.Module):
    """Speech to per-frame log-probabilities of characters and the blank.

    A second output, of phones, may stand beside that of characters on the same encoder.

    Reference: Graves et al. 2006, "Connectionist Temporal Classification"; Hannun et al. 2014,
    "Deep Speech: Scaling up end-to-end speech recognition".

    Args:
        features: settings of the front end.
        encoder: shape of the encoder.
        alphabet: characters in the order of their ids; see :class:`asr.text.CharTokenizer`.
        phones: names of the phones, see :class:`asr.pronunciation.PhoneTokenizer`; none for no
            second output.
    """

    def __init__(
        self,
        features: FeatureConfig,
        encoder: EncoderConfig,
        alphabet: str,
        phones: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.features_config = features
        self.encoder_config = encoder
        self.tokenizer = CharTokenizer(alphabet)
        self.phone_tokenizer = PhoneTokenizer(phones) if phones else None
        with torch.device("cpu"):  # computed, so it is there even where weights are yet to come
            self.feature_extractor = FeatureExtractor(features)
        self.normalisation = Normalisation(features)
        self.encoder = Encoder(features.n_features, encoder)
        self.output = nn.Linear(encoder.output_size, len(self.tokenizer))
        if self.phone_tokenizer:
            self.phone_output = nn.Linear(encoder.output_size, len(self.phone_tokenizer))

    @property
    def frame_seconds(self) -> float:
        """Distance of two output frames in seconds."""
        return self.features_config.frame_seconds * self.encoder_config.subsampling

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of the characters of normalised features.

        Args:
            features: (batch, frames, n_features), normalised, zero beyond each length.
            lengths: (batch,) int64, valid frames of each item.

        Returns:
            log_probs (batch, frames_out, vocab) float32, natural log, normalised over vocab,
            and log_prob_lengths (batch,) int64.
        """
        encoded, lengths = self.encoder(features, lengths)
        return self.characters(encoded), lengths

    def characters(self, encoded: Tensor) -> Tensor:
        """Map (batch, frames_out, output_size) to log-probabilities of characters."""
        return _log_probs(self.output, encoded)

    def phones(self, encoded: Tensor) -> Tensor:
        """Map (batch, frames_out, output_size) to log-probabilities of phones, if it has them."""
        return _log_probs(self.phone_output, encoded)

    def in_phones(self) -> "CtcModel":
        """Return a model of the same weights whose one output is that of phones, if it has one."""
        assert self.phone_tokenizer
        view = copy.copy(self)
        view._modules = {k: m for k, m in self._modules.items() if k != "phone_output"}
        view.output = self.phone_output
        view.tokenizer, view.phone_tokenizer = self.phone_tokenizer, None
        return view

    def log_probs_of(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log_probs and their lengths for raw audio.

        Args:
            waveforms: (batch, time) float32 in -1..1.
            lengths: (batch,) int64, valid samples of each item, at least 1.
        """
        features, lengths = self.feature_extractor(waveforms, lengths)
        features = self.normalisation(features, lengths)
        return self(features, lengths)


def _log_probs(output: nn.Linear, encoded: Tensor) -> Tensor:
    with torch.autocast(encoded.device.type, enabled=False):
        # The loss is computed in float32 whatever the precision of the encoder.
        return output(encoded.float()).log_softmax(dim=-1)

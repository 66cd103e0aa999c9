"""The whole acoustic model: front end, normalisation, encoder and CTC output layer."""

import torch
from torch import Tensor, nn

from asr.features import FeatureConfig, FeatureExtractor, Normalisation
from asr.models.encoder import Encoder, EncoderConfig
from asr.text import CharTokenizer


class CtcModel(nn.Module):
    """Speech to per-frame log-probabilities of characters and the blank.

    Reference: Graves et al. 2006, "Connectionist Temporal Classification"; Hannun et al. 2014,
    "Deep Speech: Scaling up end-to-end speech recognition".

    Args:
        features: settings of the front end.
        encoder: shape of the encoder.
        alphabet: characters in the order of their ids; see :class:`asr.text.CharTokenizer`.
    """

    def __init__(self, features: FeatureConfig, encoder: EncoderConfig, alphabet: str) -> None:
        super().__init__()
        self.features_config = features
        self.encoder_config = encoder
        self.tokenizer = CharTokenizer(alphabet)
        with torch.device("cpu"):  # computed, so it is there even where weights are yet to come
            self.feature_extractor = FeatureExtractor(features)
        self.normalisation = Normalisation(features)
        self.encoder = Encoder(features.n_features, encoder)
        self.output = nn.Linear(encoder.output_size, len(self.tokenizer))

    @property
    def frame_seconds(self) -> float:
        """Distance of two output frames in seconds."""
        return self.features_config.frame_seconds * self.encoder_config.subsampling

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of normalised features.

        Args:
            features: (batch, frames, n_features), normalised, zero beyond each length.
            lengths: (batch,) int64, valid frames of each item.

        Returns:
            log_probs (batch, frames_out, vocab) float32, natural log, normalised over vocab,
            and log_prob_lengths (batch,) int64.
        """
        encoded, lengths = self.encoder(features, lengths)
        with torch.autocast(encoded.device.type, enabled=False):
            # The loss is computed in float32 whatever the precision of the encoder.
            return self.output(encoded.float()).log_softmax(dim=-1), lengths

    def log_probs_of(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log_probs and their lengths for raw audio.

        Args:
            waveforms: (batch, time) float32 in -1..1.
            lengths: (batch,) int64, valid samples of each item, at least 1.
        """
        features, lengths = self.feature_extractor(waveforms, lengths)
        features = self.normalisation(features, lengths)
        return self(features, lengths)

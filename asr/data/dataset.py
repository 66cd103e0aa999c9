"""Utterances to training examples, and examples to padded batches."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from asr.audio import AUDIO_SUFFIXES, load_audio
from asr.augment import (
    MP3_RATES,
    Distortion,
    WaveAugmentConfig,
    distort,
    draw_distortion,
    random_generator,
)
from asr.data.cache import FeatureCache
from asr.data.manifest import Utterance
from asr.data.sampler import Draw
from asr.errors import ConfigError
from asr.features import SMALLEST_VARIANCE, FeatureConfig, FeatureExtractor
from asr.pronunciation import PhoneTokenizer, Pronunciations
from asr.text import CharTokenizer, normalise

# Frames. Kernels are compiled for each new shape on CPUs, so let there be few shapes.
PAD_TO = 64


class Example(NamedTuple):
    """One utterance.

    Attributes:
        utterance: its index.
        features: (frames, n_features), not normalised.
        targets: (length,) int64, characters.
        phones: (phones,) int64; none without pronunciations.
    """

    utterance: int
    features: Tensor
    targets: Tensor
    phones: Tensor


class Batch(NamedTuple):
    """A padded batch.

    Attributes:
        features: (batch, frames, n_features), not normalised, zero in the padding.
        feature_lengths: (batch,) int64.
        targets: (batch, length) int64, zero in the padding.
        target_lengths: (batch,) int64.
        phones: (batch, phones) int64, zero in the padding; none without pronunciations.
        phone_lengths: (batch,) int64.
        indices: (batch,) int64, positions in the dataset.
    """

    features: Tensor
    feature_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    phones: Tensor
    phone_lengths: Tensor
    indices: Tensor


def collate(examples: list[Example]) -> Batch:
    """Pad examples to a batch, of a multiple of 64 frames."""
    features = pad_sequence([e.features for e in examples], batch_first=True)
    return Batch(
        features=pad(features, (0, 0, 0, -features.shape[1] % PAD_TO)),
        feature_lengths=torch.tensor([len(e.features) for e in examples]),
        targets=pad_sequence([e.targets for e in examples], batch_first=True),
        target_lengths=torch.tensor([len(e.targets) for e in examples]),
        phones=pad_sequence([e.phones for e in examples], batch_first=True),
        phone_lengths=torch.tensor([len(e.phones) for e in examples]),
        indices=torch.tensor([e.utterance for e in examples]),
    )


def padded_seconds(seconds: float, features: FeatureConfig) -> float:
    """Return how long :func:`collate` makes an utterance that is the longest of its batch."""
    frames = features.num_frames(math.ceil(seconds * features.sample_rate))
    return math.ceil(frames / PAD_TO) * PAD_TO * features.frame_seconds


class SpeechDataset(Dataset[Example]):
    """Reads, distorts (only if ``augment`` is given) and analyses utterances.

    What happens to an utterance depends on seed, epoch and its index alone: not on worker
    processes, batch-mates or earlier draws, so that a resumed run repeats it exactly.

    Args:
        utterances: of one or several manifests.
        tokenizer: for the targets; texts are normalised first.
        features: settings of the front end.
        augment: distortions; ``None`` outside training.
        cache: for features that depend on nothing but the recording and its speed; with
            ``copies``, for all.
        seed: of the distortions.
        copies: distorted copies of each utterance, taken in turn epoch by epoch; 0 distorts
            anew in every epoch.
        pronunciations: of all words, for targets in phones; ``None`` for none.

    Raises:
        ConfigError: no noise in its folder, or a sample rate that MP3 does not have.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        tokenizer: CharTokenizer,
        features: FeatureConfig,
        augment: WaveAugmentConfig | None = None,
        cache: FeatureCache | None = None,
        seed: int = 0,
        copies: int = 0,
        pronunciations: Pronunciations | None = None,
    ) -> None:
        self.utterances = utterances
        self.tokenizer = tokenizer
        self.extractor = FeatureExtractor(features)
        self.augment = augment
        self.cache = cache
        self.seed = seed
        self.copies = copies
        self.pronunciations = pronunciations
        self.phone_tokenizer = PhoneTokenizer(pronunciations.phones) if pronunciations else None
        if augment and augment.mp3_probability and features.sample_rate not in MP3_RATES:
            raise ConfigError(
                f"mp3_probability is set but MP3 has no sample rate of {features.sample_rate}; "
                f"it has {', '.join(map(str, MP3_RATES))}"
            )
        self.noises = noise_files(augment.noise_dir) if augment and augment.noise_dir else []
        stats = [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in self.noises]
        self._settings = f"{augment}|{seed}|{stats}"  # all that a draw depends on

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.utterances)

    def __getitem__(self, draw: Draw) -> Example:
        """Return the example of an (index, epoch) pair.

        Raises:
            AudioError: the recording cannot be read.
            TextError: the text holds characters outside the alphabet, or a word whose
                pronunciation is not known.
        """
        index, epoch = draw
        if self.copies:
            epoch %= self.copies
        utterance = self.utterances[index]
        generator = random_generator(self.seed, epoch, index)
        distortion = draw_distortion(self.augment, generator) if self.augment else Distortion()
        text = normalise(utterance.text)
        # What the cache tells copies apart by.
        copy = distortion.speed if distortion.only_speed else f"{self._settings}|{epoch}|{index}"
        return Example(
            utterance=index,
            features=self._features(utterance.audio, copy, distortion, generator),
            targets=torch.tensor(self.tokenizer.encode(text), dtype=torch.long),
            phones=torch.tensor(self._phones(text), dtype=torch.long),
        )

    def phone_texts(self) -> Iterator[list[int]]:
        """Give the phones of each utterance, in their order; none without pronunciations."""
        return (self._phones(normalise(utterance.text)) for utterance in self.utterances)

    def _phones(self, text: str) -> list[int]:
        if self.pronunciations is None or self.phone_tokenizer is None:
            return []
        return self.phone_tokenizer.encode_words(self.pronunciations.first(text))

    def _features(
        self, audio: Path, copy: object, distortion: Distortion, generator: torch.Generator
    ) -> Tensor:
        if self.cache is None or not (distortion.only_speed or self.copies):
            return self._compute(audio, distortion, generator)
        path = self.cache.path(audio, copy)
        features = self.cache.load(path)
        if features is None:
            features = self._compute(audio, distortion, generator)
            self.cache.save(path, features)
        return features

    @torch.no_grad()
    def _compute(self, audio: Path, distortion: Distortion, generator: torch.Generator) -> Tensor:
        sample_rate = self.extractor.config.sample_rate
        waveform = torch.from_numpy(load_audio(audio, sample_rate))
        noise = None
        if distortion.snr_db is not None:
            file = self.noises[int(torch.randint(len(self.noises), (), generator=generator))]
            noise = load_noise(file, sample_rate)
        waveform = distort(waveform, sample_rate, distortion, noise, generator)
        features, _ = self.extractor(waveform[None], torch.tensor([len(waveform)]))
        return features[0]


def feature_statistics(dataset: SpeechDataset, most: int = 1000) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each feature, (n_features,), over undistorted utterances.

    At most ``most`` of them are looked at, evenly spread over the dataset.
    """
    plain = SpeechDataset(dataset.utterances, dataset.tokenizer, dataset.extractor.config)
    frames = squares = count = torch.zeros(())
    for index in range(0, len(plain), -(-len(plain) // most)):
        features = plain[index, 0].features.double()
        frames = frames + features.sum(dim=0)
        squares = squares + features.square().sum(dim=0)
        count = count + len(features)
    mean = frames / count
    deviation = (squares / count - mean.square()).clamp(min=SMALLEST_VARIANCE).sqrt()
    return mean.float(), deviation.float()


def noise_files(folder: str | Path) -> list[Path]:
    """Return the recordings below a folder, sorted.

    Raises:
        ConfigError: there are none.
    """
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise ConfigError(f"{folder}: no recordings in this noise folder; set noise_dir to one")
    return files


@lru_cache(maxsize=512)
def load_noise(file: Path, sample_rate: int) -> Tensor:
    """Return a noise recording (samples,), kept in memory after its first use."""
    return torch.from_numpy(load_audio(file, sample_rate))

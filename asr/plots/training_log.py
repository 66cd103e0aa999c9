"""What a training logged, read from the CSV files below its run folder."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from asr.errors import ConfigError


class Series(NamedTuple):
    """One figure over the training; both arrays have one entry a measurement."""

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingLog:
    """The figures of a run.

    Attributes:
        columns: figures by name, such as ``train/loss``; only those that were logged.
        steps: optimiser steps done.
        epochs: epochs begun.
        resumed: steps at which the run was taken up again.
    """

    columns: dict[str, Series]
    steps: int
    epochs: int
    resumed: tuple[int, ...]

    def __getitem__(self, name: str) -> Series:
        """Return the finite values of a figure, none if it was not logged."""
        steps, values = self.columns.get(name, Series(np.zeros(0, np.int64), np.zeros(0)))
        finite = np.isfinite(values)
        return Series(steps[finite], values[finite])


Row = dict[str, float]


def read_training_log(run_dir: str | Path) -> TrainingLog:
    """Read ``csv/version_*/metrics.csv`` of a run folder.

    Each time a run is resumed it writes a new version, which begins at its last checkpoint: what
    older versions hold from there on is left out.

    Raises:
        ConfigError: there is no log, it is empty or not one of a training.
    """
    rows: list[Row] = []
    resumed: list[int] = []
    for path in _versions(Path(run_dir)):
        newer = _read_rows(path)
        if not newer:
            continue
        first = newer[0]["step"]
        rows = [row for row in rows if row["step"] < first]
        resumed = [step for step in resumed if step < first]
        if rows:
            resumed.append(int(first))
        rows += newer
    if not rows:
        raise ConfigError(
            f"{run_dir}: no csv/version_*/metrics.csv with figures below this folder; "
            "give the run folder of a training that has logged some steps"
        )
    names = {name for row in rows for name in row} - {"step", "epoch"}
    return TrainingLog(
        columns={name: _series(rows, name) for name in sorted(names)},
        steps=int(rows[-1]["step"]) + 1,
        epochs=int(rows[-1].get("epoch", 0)) + 1,
        resumed=tuple(resumed),
    )


def _versions(run_dir: Path) -> list[Path]:
    found = {
        int(path.parent.name.removeprefix("version_")): path
        for path in run_dir.glob("csv/version_*/metrics.csv")
        if path.parent.name.removeprefix("version_").isdecimal()
    }
    return [found[version] for version in sorted(found)]


def _read_rows(path: Path) -> list[Row]:
    try:
        text = path.read_text(encoding="utf-8")
        # While a training writes, the last line may be half there.
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [_parse(row) for row in csv.DictReader(lines)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(
            f"{path}: not the log of a training ({type(error).__name__}: {error}); "
            "give the run folder of a training"
        ) from error


def _parse(row: dict[str, str | None]) -> Row:
    values = {name: float(value) for name, value in row.items() if value}
    values["step"]  # each row has one
    return values


def _series(rows: Iterable[Row], name: str) -> Series:
    pairs = [(row["step"], row[name]) for row in rows if name in row]
    steps, values = zip(*pairs, strict=True)
    return Series(np.array(steps, np.int64), np.array(values))

"""How all pictures look, and how they become files."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from asr.atomic import check_writable, whole_file
from asr.errors import ConfigError

DPI = 100
# The colours of Okabe and Ito, which colour-blind readers tell apart.
BLUE, SKY, GREEN, ORANGE, RED = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00"
INK, GREY, PALE = "#222222", "#6b6b6b", "#e4e4e4"

_STYLE: dict[Any, Any] = {
    "figure.dpi": DPI,
    "font.size": 13,
    "text.color": INK,
    "text.parse_math": False,  # texts and file names may hold dollar signs
    "axes.titlesize": 14,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}


def style() -> AbstractContextManager[None]:
    """Return a context in which pictures are drawn and saved in the common style."""
    return mpl.rc_context(_STYLE)


def save(figure: Figure, path: str | Path) -> None:
    """Write a picture whole or not at all; the name's suffix tells of what kind.

    Raises:
        ConfigError: there is no such kind.
        OSError: the file cannot be written.
    """
    kind = _kind(Path(path))
    with whole_file(path) as partial:
        figure.savefig(partial, format=kind)


def check_picture(path: str | Path) -> None:
    """Refuse a picture that could not be saved, before the work rather than after it.

    Raises:
        ConfigError: there is no such kind, or no file can be written there.
    """
    _kind(Path(path))
    check_writable(path)


def _kind(path: Path) -> str:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FigureCanvasBase.get_supported_filetypes().keys() - {"pgf"}:  # needs LaTeX
        raise ConfigError(f"{path}: cannot draw this kind of picture; end the name in .png or .svg")
    return kind

"""Training logs read and drawn: nothing lost, nothing twice."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from asr.cli.main import app
from asr.errors import ConfigError
from asr.plots.style import save, style
from asr.plots.training_curves import draw_training_curves
from asr.plots.training_log import read_training_log

HEADER = "epoch,step,train/gradient_norm,train/loss,val/wer"


def write_version(run: Path, version: int, *lines: str, header: str = HEADER) -> Path:
    path = run / "csv" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in (header, *lines)))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run that stopped after step 39, and went on from a checkpoint at step 20."""
    run = tmp_path / "a $run"
    write_version(run, 2, "0,9,4.0,3.0,", "0,19,3.0,2.5,", "1,29,2.0,7.0,", "1,39,2.0,7.0,0.7")
    write_version(run, 10, "1,29,nan,2.0,", "1,39,1.0,1.5,", "1,39,,,0.5", "2,49,0.5,1.0,")
    return run


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def draw(run: Path, title: str = "") -> Figure:
    with style():
        return draw_training_curves(read_training_log(run), title)


def panel(figure: Figure, title: str) -> Axes:
    [axes] = [axes for axes in figure.axes if axes.get_title("left").startswith(title)]
    return axes


def test_a_resumed_run_is_joined(run: Path) -> None:
    log = read_training_log(run)
    assert (log.steps, log.epochs, log.resumed) == (50, 3, (29,))
    steps, losses = log["train/loss"]
    assert steps.tolist() == [9, 19, 29, 39, 49]
    assert losses.tolist() == [3.0, 2.5, 2.0, 1.5, 1.0]
    assert log["val/wer"].values.tolist() == [0.5]
    assert log["train/gradient_norm"].steps.tolist() == [9, 19, 39, 49]  # finite ones
    assert log["val/cer"].values.tolist() == []


def test_a_run_begun_anew_replaces_the_old(run: Path) -> None:
    write_version(run, 11, "0,9,1.0,1.0,")
    log = read_training_log(run)
    assert (log.steps, log.resumed, log["train/loss"].values.tolist()) == (10, (), [1.0])


def test_reads_what_lightning_writes(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, "csv")
    for step in range(3):
        logger.log_metrics({"train/loss": 3.0 - step}, step)
    logger.save()
    logger.log_metrics({"val/wer": 0.25, "epoch": 0}, 2)  # adds columns to the file
    logger.save()
    log = read_training_log(tmp_path)
    assert log["train/loss"].values.tolist() == [3.0, 2.0, 1.0]
    assert log["val/wer"].steps.tolist() == [2]
    assert log.steps == 3


def test_a_line_being_written_is_left_out(run: Path) -> None:
    path = run / "csv" / "version_10" / "metrics.csv"
    path.write_text(path.read_text() + "2,59,0.5,0.000")
    assert read_training_log(run).steps == 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "give the run folder"),
        (HEADER + "\n", "give the run folder"),
        ("loss,wer\n1,2\n", "not the log of a training"),
        (HEADER + "\n0,9,many,3.0,\n", "not the log of a training"),
        (HEADER + "\n0,9,4.0,3.0,0.5,7\n", "not the log of a training"),
        (HEADER + f"\n0,9,{'1' * 200_000},3.0,\n", "not the log of a training"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        write_version(tmp_path, 0).write_text(content)
    result = invoke("plot", tmp_path)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(f"asr: error: {tmp_path}")
    assert message in line
    with pytest.raises(ConfigError):
        read_training_log(tmp_path)


def test_curves_show_the_figures(run: Path) -> None:
    figure = draw(run, "a run")
    faint, smooth = panel(figure, "CTC loss").lines[:2]
    assert faint.get_xydata().tolist() == [[9, 3], [19, 2.5], [29, 2], [39, 1.5], [49, 1]]
    assert smooth.get_ydata().tolist() == [3, 2.5, 2, 1.5, 1]  # too few to smooth
    wer = panel(figure, "Validation").lines[0]
    assert (wer.get_xydata().tolist(), wer.get_marker()) == ([[39, 0.5]], "o")
    assert panel(figure, "Gradient").get_yscale() == "log"
    assert figure.get_suptitle() == (
        "a run  ·  50 steps  ·  3 epochs  ·  best WER 50.00% at step 39  ·  resumed at 29 (dotted)"
    )


def test_what_was_not_logged_is_said(run: Path) -> None:
    figure = draw(run, "a run")
    empty = [axes.get_title("left") for axes in figure.axes if axes.texts]
    assert empty == ["Learning rate", "Speed, seconds of audio a second"]
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"not logged yet"}


def test_smooth_lines_are_moving_averages(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).random(500)
    write_version(tmp_path, 0, *(f"0,{i},1,{loss}," for i, loss in enumerate(losses)))
    axes = panel(draw(tmp_path), "CTC loss")
    smooth = axes.lines[1].get_ydata()
    expected = [losses[max(0, i - 5) : i + 6].mean() for i in range(500)]
    np.testing.assert_allclose(smooth, expected)


def test_one_measurement_is_seen(tmp_path: Path) -> None:
    write_version(tmp_path, 0, "0,0,1.0,3.0,")
    figure = draw(tmp_path)
    assert panel(figure, "CTC loss").lines[0].get_marker() == "o"


def test_plot_writes_a_picture(run: Path, tmp_path: Path) -> None:
    result = invoke("plot", run)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{run / 'curves.png'}\n", "")
    assert imread(run / "curves.png").shape[:2] == (900, 1600)
    result = invoke("plot", run, "-o", tmp_path / "new" / "curves.SVG")
    assert result.exit_code == 0
    assert "<svg" in (tmp_path / "new" / "curves.SVG").read_text()


@pytest.mark.parametrize("name", ["curves", "curves.txt"])
def test_unknown_kinds_of_pictures_are_refused(run: Path, name: str) -> None:
    result = invoke("plot", run, "-o", run / name)
    assert result.exit_code == 1
    assert "end the name in .png" in result.stderr
    assert not (run / name).exists()


def test_the_style_is_left_behind(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with style():
        save(Figure(), tmp_path / "empty.png")
    assert dict(mpl.rcParams) == before


def test_help_does_without_matplotlib() -> None:
    script = (
        "import sys\n"
        "from asr.cli.main import app\n"
        "try: app(['plot', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'matplotlib', 'torch', 'numpy'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "run_dir" in result.stdout.lower()

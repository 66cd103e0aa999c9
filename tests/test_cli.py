"""The ``asr`` command: what goes where, exit codes, one line per error."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import soundfile
import torch
from babble import babbling_model, write_babbler, write_tones
from typer.testing import CliRunner, Result

import asr
from asr.bundle import load_bundle
from asr.cli.main import app
from asr.cli.messages import audio_progress
from asr.cli.options import BATCH_SECONDS
from asr.data.manifest import Utterance, write_manifest
from asr.decoding.config import DecoderConfig
from asr.models.ctc import CtcModel
from asr.transcriber import BATCH_SECONDS as LIBRARY_BATCH_SECONDS
from asr.transcriber import Transcriber

ASR = [sys.executable, "-m", "asr"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_babbler(tmp_path_factory.mktemp("model") / "babbler.asr")


@pytest.fixture(scope="module")
def transcriber(model: Path) -> Transcriber:
    return Transcriber.load(model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with recordings a.wav and deep/b.flac, and other things."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write_tones(tmp_path / "in" / "a.wav", 2.0, seed=1)
    waveform, rate = soundfile.read(write_tones(tmp_path / "b.wav", 3.0, seed=2))
    soundfile.write(tmp_path / "in" / "deep" / "b.FLAC", waveform, rate)
    (tmp_path / "in" / "notes.txt").write_text("no recording")
    (tmp_path / "in" / "._a.wav").write_bytes(b"left by macOS")
    return tmp_path / "in"


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def test_one_recording_gives_its_text_alone(
    model: Path, folder: Path, transcriber: Transcriber
) -> None:
    result = run("transcribe", folder / "a.wav", "--model", model)
    assert result.exit_code == 0
    assert result.stdout == transcriber.transcribe(folder / "a.wav").text + "\n"
    assert result.stderr == ""


def test_a_folder_gives_a_line_for_each_recording(
    model: Path, folder: Path, transcriber: Transcriber
) -> None:
    result = run("transcribe", folder, "--model", model, "--batch-seconds", 1)
    paths = [folder / "a.wav", folder / "deep" / "b.FLAC"]
    lines = [f"{path}\t{transcriber.transcribe(path).text}" for path in paths]
    assert result.stdout.splitlines() == lines
    assert result.exit_code == 0


def test_standard_input(model: Path, folder: Path, transcriber: Transcriber) -> None:
    content = (folder / "a.wav").read_bytes()
    result = run("transcribe", "-", "--model", model, stdin=content)
    assert result.stdout == transcriber.transcribe(folder / "a.wav").text + "\n"


def test_jsonl_holds_words_with_times(model: Path, folder: Path, transcriber: Transcriber) -> None:
    result = run("transcribe", folder, "--model", model, "--format", "jsonl")
    first, second = map(json.loads, result.stdout.splitlines())
    transcript = transcriber.transcribe(folder / "a.wav")
    assert list(first) == ["path", "duration", "text", "segments", "words"]
    assert first["path"] == str(folder / "a.wav")
    assert (first["duration"], second["duration"]) == (2.0, 3.0)
    assert first["text"] == transcript.text
    for entry, word in zip(first["words"], transcript.words, strict=True):
        assert entry == pytest.approx(asdict(word), abs=5e-4)


def test_json_is_one_array(model: Path, folder: Path) -> None:
    lines = run("transcribe", folder, "--model", model, "--format", "jsonl").stdout.splitlines()
    result = run("transcribe", folder, "--model", model, "--format", "json")
    assert json.loads(result.stdout) == [json.loads(line) for line in lines]


def test_failures_are_named_and_the_rest_is_done(model: Path, folder: Path) -> None:
    (folder / "bad.wav").write_text("no sound")
    (folder.parent / "empty").mkdir()
    result = run(
        "transcribe", folder / "gone.wav", folder.parent / "empty", folder, "--model", model
    )
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    errors = result.stderr.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("asr: error: ") for line in errors)
    for name in ("gone.wav", "empty", "bad.wav"):
        assert sum(name in line for line in errors) == 1


def test_a_cut_recording_gives_a_warning(model: Path, folder: Path) -> None:
    path = folder / "a.wav"
    path.write_bytes(path.read_bytes()[:40_000])
    result = run("transcribe", path, "--model", model)
    assert result.exit_code == 0
    assert len(result.stdout) > 2
    [warning] = result.stderr.splitlines()
    assert warning.startswith(f"asr: warning: {path}: ")


@pytest.mark.parametrize("format", ["txt", "json", "jsonl"])
def test_output_files_mirror_the_folder(
    model: Path, folder: Path, transcriber: Transcriber, format: str
) -> None:
    output = folder.parent / "out"
    (folder / "bad.wav").write_text("no sound")
    result = run("transcribe", folder, "--model", model, "--output-dir", output, "--format", format)
    assert (result.exit_code, result.stdout) == (1, "")
    files = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    assert files == [f"a.{format}", f"deep/b.{format}"]
    content = (output / f"a.{format}").read_text(encoding="utf-8")
    text = transcriber.transcribe(folder / "a.wav").text
    assert content == f"{text}\n" if format == "txt" else json.loads(content)["text"] == text


def test_all_formats_at_once(model: Path, folder: Path) -> None:
    output = folder.parent / "out"
    arguments = ("--output-dir", output, "--format", "all", "--words-per-line", "2")
    result = run("transcribe", folder / "a.wav", "--model", model, *arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["a.txt", "a.json", "a.jsonl", "a.srt", "a.vtt", "a.tsv", "a.ctm", "a.TextGrid"]
    )
    cues = (output / "a.srt").read_text(encoding="utf-8").strip().split("\n\n")
    lines = [line for cue in cues for line in cue.split("\n")[2:]]
    assert " ".join(lines) == (output / "a.txt").read_text(encoding="utf-8").strip()
    assert all(len(line.split()) <= 2 for line in lines)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--format", "srt"], "of several recordings"),
        (["--format", "all"], "needs an --output-dir"),
    ],
)
def test_one_stream_cannot_hold_every_format(
    model: Path, folder: Path, arguments: list[str], message: str
) -> None:
    result = run("transcribe", folder, "--model", model, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_colour_is_for_terminals_alone(model: Path, folder: Path) -> None:
    plain = run("transcribe", folder, "--model", model)
    assert run("transcribe", folder, "--model", model, "--color").stdout == plain.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [folder / "a.wav", folder / "gone.wav", "-"]
    with audio_progress(paths) as on_progress:
        assert on_progress is None
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    with audio_progress(paths) as on_progress:
        assert on_progress
        on_progress(1.0)
        print("text")
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert " 50%" in shown
    assert "text" not in shown
    monkeypatch.setattr("sys.stdout", Terminal())
    with audio_progress(paths, beside_output=True) as on_progress:
        assert on_progress is None


def test_progress_asks_no_recording_for_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    with audio_progress(["gone.wav"], 4.0) as on_progress:
        assert on_progress
        on_progress(1.0)
    assert " 25%" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_an_empty_name_is_not_this_folder(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = run("transcribe", "", "--model", model)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "asr: error: an empty name is no recording; name a file or folder\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell closes them")
def test_closed_streams_are_no_error(model: Path, folder: Path) -> None:
    plain = run("transcribe", folder / "a.wav", "--model", model).stdout
    arguments = [*ASR, "transcribe", "gone.wav", str(folder / "a.wav"), "--model", str(model)]
    shell = ["sh", "-c", '"$@" 2>&-', "sh", *arguments]
    closed = subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=False)
    assert closed.returncode == 1  # for gone.wav
    assert plain.strip().splitlines()[-1] in closed.stdout
    assert "error" not in closed.stdout
    shell[2] = '"$@" >&-'
    closed = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)
    assert closed.returncode == 1
    assert closed.stderr.count("\n") == 1 and "gone.wav" in closed.stderr


def test_two_recordings_never_share_an_output_file(model: Path, folder: Path) -> None:
    write_tones(folder / "deep" / "a.wav", 1.0)
    output = folder.parent / "out"
    inputs = (folder / "a.wav", folder / "deep" / "a.wav")
    result = run("transcribe", *inputs, "--model", model, "--output-dir", output)
    assert result.exit_code == 1
    assert "would hold both" in result.stderr
    assert not output.exists()


def test_a_name_that_the_terminal_cannot_show(model: Path, folder: Path) -> None:
    name = "caf\udce9.wav"
    try:
        write_tones(folder / "deep" / "c.wav", 1.0).rename(folder / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    result = run("transcribe", folder, "--model", model, "--format", "jsonl")
    assert result.exit_code == 0
    assert str(folder / name) in [json.loads(line)["path"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    "arguments",
    [
        ["transcribe", "a.wav", "--modle", "x"],
        ["transcribe", "a.wav", "--format", "xml"],
        ["transcribe", "a.wav", "--batch-seconds", "0"],
        ["transcribe"],
        ["transcrib", "a.wav"],
        ["evaluate", "a.jsonl", "--model", "x", "--hypotheses", "y"],
    ],
)
def test_misuse_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["transcribe", "a.wav", "--model", "none.asr"],
        ["transcribe", "a.wav", "--device", "abacus"],
        ["info", "none.asr"],
        ["export", "none.ckpt", "-o", "model.asr"],
        ["evaluate", "none.jsonl"],
        ["score", "none.txt", "none.txt"],
        ["compare", "none.jsonl", "none.jsonl"],
    ],
)
def test_what_the_user_can_mend_is_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("asr: error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["export", "none.ckpt"], ["compare", "none.jsonl", "none.jsonl"]]
)
@pytest.mark.parametrize("output", [".", "folder"])
def test_a_folder_to_write_is_refused_before_the_work(
    arguments: list[str], output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    result = run(*arguments, "-o", output)
    assert result.exit_code == 1
    assert result.stderr == f"asr: error: {output}: is a folder; name a file to write\n"


def test_version() -> None:
    assert run("--version").stdout == f"asr {asr.__version__}\n"


def test_default_batches_are_the_librarys() -> None:
    assert BATCH_SECONDS == LIBRARY_BATCH_SECONDS


def test_load_model_from_python(model: Path, folder: Path, transcriber: Transcriber) -> None:
    text = asr.load_model(model, device="cpu").transcribe(folder / "a.wav").text
    assert text == transcriber.transcribe(folder / "a.wav").text


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, asr\n"
        "from asr.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as error: assert not error.code\n"
        "heavy = {'torch', 'torchaudio', 'lightning', 'numpy', 'soundfile', 'jiwer', 'librosa'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "transcribe" in result.stdout


def test_a_closed_pipe_ends_quietly(model: Path, folder: Path) -> None:
    arguments = ["transcribe", *[str(folder)] * 20, "--model", str(model), "--batch-seconds", "1"]
    with subprocess.Popen(
        [*ASR, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let child processes hear Ctrl-C, which those of a background job ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a single process")
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_exits_with_130(model: Path) -> None:
    arguments = [*ASR, "transcribe", "-", "--model", str(model)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stderr
        process.stdin.write(bytes(1_000_000))  # more than a pipe holds: returns when it is read
        for _ in range(3):  # Python may lose one that arrives inside a callback
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
                break
        assert process.returncode == 130
        assert b"Traceback" not in process.stderr.read()


def test_info_shows_card_settings_and_size(model: Path) -> None:
    result = run("info", model)
    assert result.exit_code == 0
    assert result.stdout.startswith("# Babbler\n\nTrained on nothing.\n\n")
    parameters = sum(p.numel() for p in babbling_model().parameters())
    for text in (f"{parameters:,}", " ABCDEF", "sample_rate 8000", "cell lstm", "method greedy"):
        assert text in result.stdout
    assert f"{model.stat().st_size / 1e6:.1f} MB" in result.stdout


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = babbling_model()
    content = {
        "asr": {
            "alphabet": model.tokenizer.alphabet,
            "features": asdict(model.features_config),
            "encoder": asdict(model.encoder_config),
        },
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
    }
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_export_makes_a_model(checkpoint: Path, folder: Path, transcriber: Transcriber) -> None:
    card = folder / "card.md"
    card.write_text("# Köln\n", encoding="utf-8")
    output = folder / "new" / "model.asr"
    assert run("export", checkpoint, "-o", output, "--card", card).exit_code == 0
    assert run("info", output).stdout.startswith("# Köln\n")
    text = run("transcribe", folder / "a.wav", "--model", output).stdout
    assert text == transcriber.transcribe(folder / "a.wav").text + "\n"


def test_export_without_a_card_says_so(checkpoint: Path) -> None:
    output = checkpoint.with_suffix(".asr")
    assert run("export", checkpoint, "-o", output, "--precision", "int8").exit_code == 0
    assert "without a card" in run("info", output).stdout


def test_export_takes_the_rest_of_another_model(
    checkpoint: Path, model: Path, tmp_path: Path
) -> None:
    other, output = tmp_path / "other.asr", tmp_path / "new.asr"
    decoder = DecoderConfig("beam", beam_width=7)
    replace(load_bundle(model), decoder=decoder, pronunciations=b"words").save(other)
    assert run("export", checkpoint, "-o", output, "--like", other).exit_code == 0
    bundle = load_bundle(output)
    assert (bundle.decoder, bundle.pronunciations) == (decoder, b"words")
    assert "without a card" in bundle.card
    content = torch.load(checkpoint)
    content["asr"]["alphabet"] = " ABCDEG"
    torch.save(content, checkpoint)
    result = run("export", checkpoint, "-o", output, "--like", other)
    assert result.exit_code == 1
    assert "has another alphabet or other phones" in result.stderr


def test_export_like_a_model_with_other_phones(model: Path, tmp_path: Path) -> None:
    plain = load_bundle(model)
    paths = []
    for phones in (("AA", "B"), ("AA", "C")):
        source = plain.model
        spoken = CtcModel(source.features_config, source.encoder_config, " ABCDEF", phones)
        paths.append(tmp_path / f"{phones[1]}.asr")
        replace(plain, model=spoken).save(paths[-1])
    content = {
        "asr": {
            "alphabet": " ABCDEF",
            "phones": ["AA", "B"],
            "features": asdict(plain.model.features_config),
            "encoder": asdict(plain.model.encoder_config),
        },
        "state_dict": {
            f"model.{k}": v for k, v in load_bundle(paths[0]).model.state_dict().items()
        },
    }
    torch.save(content, tmp_path / "last.ckpt")
    for like, code in zip(paths, (0, 1), strict=True):
        result = run("export", tmp_path / "last.ckpt", "-o", tmp_path / "o.asr", "--like", like)
        assert result.exit_code == code


def test_links_in_a_folder_are_followed_once_and_dead_ones_named(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "deep").symlink_to(folder)
    (links / "again").symlink_to(links)
    (links / "dead.wav").symlink_to(tmp_path / "gone.wav")
    (links / "endless.wav").symlink_to("x" * 300)  # of which no system can say whether it exists
    result = run("transcribe", links, "--model", model)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    dead, endless = result.stderr.splitlines()
    assert "dead.wav" in dead and "endless.wav" in endless


def test_a_name_too_long_for_its_output_fails_alone(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    long = folder / ("x" * 250 + ".wav")
    shutil.copy(folder / "a.wav", long)
    command = ("transcribe", long, folder / "a.wav", "--model", model, "--format", "jsonl")
    for resume in ((), ("--resume",)):
        result = run(*command, "--output-dir", tmp_path / "out", *resume)
        assert result.exit_code == 1
        [line] = [line for line in result.stderr.splitlines() if "error" in line]
        assert "cannot be written" in line
    assert (tmp_path / "out" / "a.jsonl").exists()


def test_export_averages_no_more_checkpoints_than_there_are(checkpoint: Path) -> None:
    best = checkpoint.parent / "run" / "checkpoints"
    best.mkdir(parents=True)
    for name in ("best-10-wer0.5000.ckpt", "best-20-wer0.4000.ckpt"):
        shutil.copy(checkpoint, best / name)
    output = checkpoint.with_suffix(".asr")
    assert run("export", best.parent, "-o", output, "--average", 2).exit_code == 0
    for source, number in ((best.parent, 3), (checkpoint, 2)):
        result = run("export", source, "-o", output, "--average", number)
        assert result.exit_code == 1
        assert f"--average {number} is not in 1 to {number - 1}" in result.stderr


@pytest.fixture
def manifest(folder: Path, transcriber: Transcriber) -> Path:
    """Return a manifest whose first text is what the model hears and whose second is not."""
    a, b = folder / "a.wav", folder / "deep" / "b.FLAC"
    heard = transcriber.transcribe(a).text
    utterances = [Utterance("a", a, 2.0, heard, "ann"), Utterance("b", b, 3.0, "X Y", "bob")]
    write_manifest(folder / "test.jsonl", utterances)
    return folder / "test.jsonl"


def test_evaluate_counts_the_errors(manifest: Path, model: Path, transcriber: Transcriber) -> None:
    result = run(
        "evaluate", manifest, "--model", model, "--json", "--output", manifest.parent / "o"
    )
    report = json.loads(result.stdout)
    hits = len(transcriber.transcribe(manifest.parent / "a.wav").text.split())
    heard = len(transcriber.transcribe(manifest.parent / "deep" / "b.FLAC").text.split())
    assert result.exit_code == 0
    assert (report["hits"], report["utterances"], report["seconds"]) == (hits, 2, 5.0)
    assert (report["substitutions"], report["deletions"]) == (min(2, heard), max(0, 2 - heard))
    assert report["insertions"] == max(0, heard - 2)
    assert report["wer"] == pytest.approx(max(2, heard) / (hits + 2))
    assert report["wer_ci"][0] <= report["wer"] <= report["wer_ci"][1]
    assert report["rtf"] > 0
    assert report["failures"] == 0
    assert json.loads((manifest.parent / "o" / "report.json").read_text()) == report
    rows = (manifest.parent / "o" / "utterances.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["a", "b"]
    assert json.loads(rows[0])["hits"] == hits


def test_evaluate_refuses_an_output_that_it_cannot_write_before_the_work(manifest: Path) -> None:
    blocked = manifest.parent / "o" / "report.json"
    blocked.mkdir(parents=True)
    result = run("evaluate", manifest, "--model", "none.asr", "--output", blocked.parent)
    assert result.exit_code == 1
    assert f"{blocked}: is a folder" in result.stderr  # and not that there is no such model


def test_evaluate_prints_a_table(manifest: Path, model: Path) -> None:
    result = run("evaluate", manifest, "--model", model)
    for text in ("WER", "CER", "bootstrap over speakers", "2 utterances", "ann", "x real time"):
        assert text in result.stdout


def test_failed_recordings_count_as_empty(manifest: Path, model: Path) -> None:
    (manifest.parent / "deep" / "b.FLAC").unlink()
    result = run("evaluate", manifest, "--model", model, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["failures"], report["deletions"], report["substitutions"]) == (1, 2, 0)
    assert report["rtf"] > 0
    assert "b.FLAC" in result.stderr
    (manifest.parent / "a.wav").unlink()
    output = manifest.parent / "o"
    result = run("evaluate", manifest, "--model", model, "--output", output)
    assert result.exit_code == 1
    assert "x real time" not in result.stdout + (output / "report.html").read_text()


def test_evaluate_scores_given_hypotheses(manifest: Path, model: Path) -> None:
    output = manifest.parent / "o"
    first = run("evaluate", manifest, "--model", model, "--json", "--output", output)
    hypotheses = output / "utterances.jsonl"
    second = run("evaluate", manifest, "--hypotheses", hypotheses, "--json")
    left, right = json.loads(first.stdout), json.loads(second.stdout)
    assert all(left[key] == right[key] for key in right)
    for option in (("--model", model), ("--beam-width", 9), ("--decoder", "greedy")):
        refused = run("evaluate", manifest, "--hypotheses", hypotheses, *option)
        assert refused.exit_code == 2 and "nothing is transcribed" in refused.stderr
    hypotheses.write_text(hypotheses.read_text().splitlines()[0])
    third = run("evaluate", manifest, "--hypotheses", hypotheses)
    assert third.exit_code == 1
    assert "lacks 1 utterances of the manifest, such as 'b'" in third.stderr


def test_compare_tells_the_difference(manifest: Path, model: Path) -> None:
    output = manifest.parent / "o"
    run("evaluate", manifest, "--model", model, "--output", output)
    path = output / "utterances.jsonl"
    same = json.loads(run("compare", path, path, "--json").stdout)
    assert (same["difference"], same["p_value"]) == (0, 1)
    assert "p-value      1.0000" in run("compare", path, path).stdout


def test_compare_takes_folders_and_names_them_by_what_differs(
    manifest: Path, model: Path, tmp_path: Path
) -> None:
    first, second, page = tmp_path / "mix0.5", tmp_path / "mix0.65", tmp_path / "compare.html"
    run("evaluate", manifest, "--model", model, "--output", first)
    shutil.copytree(first, second)
    result = run("compare", first, second, "-o", page)
    assert result.exit_code == 0, result.stderr
    assert "<title>mix0.5 and mix0.65" in page.read_text()
    missing = run("compare", first, tmp_path)
    assert missing.exit_code == 1 and "utterances.jsonl: cannot read" in missing.stderr


def test_score_compares_two_texts(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref.txt", tmp_path / "hyp.txt"
    reference.write_text("one two three\n\nfour\n")
    hypothesis.write_bytes(b"\xef\xbb\xbfOne, too three\r\n\r\n\r\n")
    report = json.loads(run("score", reference, hypothesis, "--json").stdout)
    assert (report["hits"], report["substitutions"], report["deletions"]) == (2, 1, 1)
    assert (report["utterances"], report["wer"]) == (3, 0.5)
    assert "WER   50.00%" in run("score", reference, hypothesis).stdout
    hypothesis.write_text("one\n")
    result = run("score", reference, hypothesis)
    assert result.exit_code == 1
    assert "has 1 lines" in result.stderr


def test_score_of_nothing_is_no_perfect_score(tmp_path: Path) -> None:
    for name in ("ref.txt", "hyp.txt"):
        (tmp_path / name).write_text("\n")
    result = run("score", tmp_path / "ref.txt", tmp_path / "hyp.txt")
    assert result.exit_code == 1
    assert "ref.txt: has no word" in result.stderr and "WER" not in result.stdout


def test_score_writes_its_results_though_nobody_reads_them(tmp_path: Path) -> None:
    (tmp_path / "ref.txt").write_text("ONE TWO\n")
    command = [sys.executable, "-m", "asr", "score", "ref.txt", "ref.txt", "--output", "o"]
    reader, writer = os.pipe()
    os.close(reader)
    subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    assert json.loads((tmp_path / "o" / "report.json").read_text())["hits"] == 2
    assert (tmp_path / "o" / "report.html").is_file()

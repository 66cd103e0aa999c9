"""The official language models: fetched from a real server, used as they come."""

from pathlib import Path

import pytest
from file_server import FileServer
from recipe_scripts import load_recipe

from asr.decoding.beam import BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.lm.arpa import write_arpa
from asr.lm.lexicon import read_lexicon
from asr.lm.ngram import encode_text, estimate
from asr.lm.word_model import WordModel
from asr.text import CharTokenizer

recipe = load_recipe("librispeech/lm.py")


def test_fetches_models_and_lexicon_that_load_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = tmp_path / "3-gram.pruned.1e-7.arpa.gz"
    write_arpa(official, estimate(encode_text([["THE", "CAT"], ["A", "CAT"]]), 3))
    files = {
        "/3-gram.pruned.1e-7.arpa.gz": official.read_bytes(),
        "/librispeech-lexicon.txt": b"A  AH0\nA  EY1\nCAT  K AE1 T\nTHE  DH AH0\n",
    }
    folder = tmp_path / "lm"
    with FileServer(files) as server:
        arguments = ["--output", str(folder), "--base-url", server.url]
        assert recipe.main(arguments) == 0
        fetched = capsys.readouterr().out.split()
        assert fetched == [str(folder / Path(name).name) for name in files]
        requests = len(server.requests)
        assert recipe.main(arguments) == 0
        assert len(server.requests) == requests  # nothing is fetched twice
    words = read_lexicon(fetched[1])
    assert words == ["A", "CAT", "THE"]
    BeamDecoder(CharTokenizer(), DecoderConfig("beam"), WordModel(fetched[0]), words=words)


def test_a_missing_file_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileServer({}) as server:
        assert recipe.main(["--output", str(tmp_path), "--base-url", server.url]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "404" in line

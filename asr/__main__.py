"""``python -m asr``: the same as the ``asr`` command."""

from asr.cli.main import app

if __name__ == "__main__":
    app(prog_name="asr")

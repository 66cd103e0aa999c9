"""Gather what ``decode.py`` measured on a run into one Markdown table.

    python recipes/librispeech/evaluate.py runs/mini

prints the table and writes it to ``runs/mini/RESULTS.md``, ready for RESULTS.md here. Results older
than the model are another's and left out.
"""

import argparse
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import torch
from decode import is_newer  # type: ignore[import-not-found]  # beside this file

HEADER = "| set | utterances | hours | WER | CER | S / D / I | x real time |"


def main() -> int:
    """Write the table; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a training run")
    run = parser.parse_args().run
    reports, model = [], run / "model.asr"
    for report in sorted(run.glob("decode/*/report.json")):
        if model.exists() and not is_newer(report, model):
            print(f"{report}: older than {model}, left out; run decode.py", file=sys.stderr)
        else:
            reports.append(report)
    if not reports:
        print(f"evaluate: error: {run}: nothing decoded yet; run decode.py", file=sys.stderr)
        return 1
    found = {path.parent.name: json.loads(path.read_text("utf-8")) for path in reports}
    rows = [row(name, report) for name, report in found.items()]
    devices = {report.get("device", "") for report in found.values()}
    table = "\n".join([HEADER, "|---" * 7 + "|", *rows])
    text = f"{table}\n\nMeasured on {hardware(max(devices))}; 95 % intervals by bootstrap.\n"
    (run / "RESULTS.md").write_text(text, "utf-8")
    print(text, end="")
    return 0


def row(name: str, report: dict[str, Any]) -> str:
    """Return one line of the table."""
    errors = " / ".join(str(report[key]) for key in ("substitutions", "deletions", "insertions"))
    speed = f"{1 / report['rtf']:.0f}" if "rtf" in report else "–"  # no recording was read
    return (
        f"| {name} | {report['utterances']} | {report['seconds'] / 3600:.2f} "
        f"| {rate(report, 'wer')} | {rate(report, 'cer')} | {errors} | {speed} |"
    )


def rate(report: dict[str, Any], name: str) -> str:
    """Return an error rate in percent with its interval."""
    low, high = report[f"{name}_ci"]
    return f"{100 * report[name]:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def hardware(device: str = "cuda") -> str:
    """Return what the machine is, in words: its GPU if that was used."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{threads} {'thread' if threads == 1 else 'threads'} of a CPU ({cpu()})"


def cpu() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:  # Linux; Python's own platform.processor() is silent there
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        text = ""
    name = re.search(r"^model name\s*: (.+)", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())

"""``asr compare``: is one system better than another?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Json


def compare(
    a: Annotated[Path, typer.Argument(help="Folder or utterances.jsonl of the first system.")],
    b: Annotated[Path, typer.Argument(help="Folder or utterances.jsonl of the second system.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Web page to write, with all utterances (.html)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the word error rates of two systems on the same utterances.

    The p-value of a paired bootstrap says how often so large a difference would come by chance.
    """
    from asr.atomic import check_writable
    from asr.cli.page import write_comparison_page
    from asr.scoring.bootstrap import compare as compare_all
    from asr.scoring.files import read_utterances

    if output:
        check_writable(output)  # better refused now than after the work
    scored_a, scored_b = read_utterances(a), read_utterances(b)
    result = compare_all(scored_a, scored_b)
    if output:
        write_comparison_page(output, result, (a, scored_a), (b, scored_b))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    low, high = result.difference_ci
    unit = "speakers" if result.resampled_by == "speaker" else "utterances"
    typer.echo(
        f"A           {result.wer_a:7.2%}  {a}\n"
        f"B           {result.wer_b:7.2%}  {b}\n"
        f"difference  {result.difference:+7.2%}  ({low:+.2%} to {high:+.2%})\n"
        f"p-value     {result.p_value:7.4f}  paired bootstrap over {unit}, "
        f"{result.utterances} utterances"
    )

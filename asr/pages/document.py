"""One HTML file that holds all it needs: style, script, data, sounds and pictures."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from asr import __version__
from asr.atomic import whole_file

# Shared by the pages; they share one scope, in this order.
SCRIPTS = ("dom", "charts", "alignment", "list", "player", "timeline", "row")


def write_page(
    path: str | Path,
    name: str,
    data: Mapping[str, Any],
    media: Mapping[int, Mapping[str, Any]] | None = None,
) -> None:
    """Write a page, whole or not at all. It works from a disk, without any other file.

    A policy in the page forbids the browser to run any script but the page's own and to load
    anything from elsewhere, recordings excepted.

    Args:
        path: file to write.
        name: which page, ``report`` or ``comparison``.
        data: what it shows, with a ``title``; anything that ``json`` can write.
        media: sound and pictures of some utterances, by their place in the data; kept apart,
            so that the page opens before all of it is parsed.

    Raises:
        OSError: the file cannot be written.
    """
    style = _part("style.css")
    script = "\n".join(_part(f"{part}.js") for part in (*SCRIPTS, name))
    page = Template(_part("page.html")).substitute(
        policy=_policy(style, script),
        version=__version__,
        title=html.escape(f"{data['title']} · asr"),
        style=style,
        body=_part(f"{name}.html"),
        data=_json(data),
        media="\n".join(
            f'<script type="application/json" data-media="{index}">{_json(item)}</script>'
            for index, item in (media or {}).items()
        ),
        script=script,
    )
    with whole_file(path) as partial:
        # Names of files may hold bytes that are no text.
        partial.write_bytes(page.encode("utf-8", errors="backslashreplace"))


def _part(name: str) -> str:
    return (files("asr.pages") / "parts" / name).read_text("utf-8")


def _json(value: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _policy(style: str, script: str) -> str:
    sources = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "img-src": "data:",
        "media-src": "* blob:",  # recordings that are not embedded lie beside the page
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in sources.items())


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

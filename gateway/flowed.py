"""Text of format=flowed (RFC 3676): soft line breaks taken out, as a reader sees it. One pass."""

from __future__ import annotations

_SIGNATURE = "-- "


def unflow(text: str, *, deletes_space: bool = False) -> str:
    """The paragraphs, each on one line. `deletes_space`: DelSp=yes, the space before a soft break goes too."""
    result: list[str] = []
    quoted = -1
    for whole in text.split("\n"):
        line = whole.removesuffix("\r")
        depth = len(line) - len(line.lstrip(">"))
        bare = line[depth:].removeprefix(" ")  # RFC 3676 4.4: a stuffed space
        flows = bare.endswith(" ") and bare != _SIGNATURE
        piece = bare[:-1] if flows and deletes_space else bare
        if depth != quoted:
            result.append(("\n" if result else "") + line[:depth] + (" " if depth else ""))
        result.append(piece)
        quoted = depth if flows else -1  # -1: the next line begins a paragraph
    return "".join(result)

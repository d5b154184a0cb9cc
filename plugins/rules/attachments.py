"""`strip`: attachments that an expression names are taken out of the message, and a notice stands in their place (RFC 2046 5.1).

What is signed or encrypted, and what lies in a message of its own, is left as it is and labelled `not-stripped`, with the reason.
"""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from string import Template
from typing import Any, cast

from pydantic import Field, PrivateAttr, field_validator, model_validator

from gateway import (
    Edit,
    Label,
    Message,
    Part,
    PluginOptions,
    add_header,
    remove_header,
    remove_part,
    replace_body,
    replace_part,
)
from gateway.plugins.rules.expressions import Expression, explain
from gateway.plugins.rules.facts import Subject
from gateway.plugins.rules.tree import ExpressionError

NOT_STRIPPED = "not-stripped"
MAX_PARTS = 100
"""Attachments of one message that one rule takes out."""
NOTICE = """An attachment of this message was removed by the policy of this site.

Name:    $name
Type:    $type
Size:    $size octets
SHA-256: $sha256
"""
_PLACES = ("name", "type", "size", "sha256")
_BEFORE, _AFTER = "attachments.exists(a, (\n", "\n))"
_SEALED = re.compile(
    r"multipart/(?:signed|encrypted)|application/(?:(?:x-)?pkcs7-(?:mime|signature)|pgp-(?:encrypted|signature|keys))"
)
_ITS_OWN = ("Content-Type", "Content-Transfer-Encoding", "Content-Disposition")
"""Fields that go with an attachment that is the whole message."""


class StripAttachments(PluginOptions):
    """`strip`: attachments for which an expression about `a` holds."""

    strip: str
    """`a.extension in [".exe", ".js"]`."""
    notice: str = Field(default=NOTICE, max_length=4_000)
    """Text in their place, with `$name`, `$type`, `$size`, `$sha256`; an empty one leaves an empty part."""

    _expression: Expression = PrivateAttr()

    @field_validator("strip")
    @classmethod
    def _check_expression(cls, value: str) -> str:
        _about_one(value)
        return value

    @field_validator("notice")
    @classmethod
    def _has_known_places(cls, value: str) -> str:
        template = Template(value)
        unknown = sorted(set(template.get_identifiers()) - set(_PLACES))
        if unknown or not template.is_valid():
            raise ValueError(
                f"found {', '.join(unknown) or 'a $ without a name'}; allowed: {', '.join(_PLACES)}, and $$ for a dollar"
            )
        return value

    @model_validator(mode="after")
    def _compile(self) -> StripAttachments:
        self._expression = _about_one(self.strip)
        return self

    @property
    def expression(self) -> Expression:
        """What it asks of an attachment."""
        return self._expression

    def change(self, subject: Subject) -> tuple[list[Edit], list[Label]]:
        """What takes them out, and why some stay."""
        wanted = [part for part in subject.message.attachments if self._is_wanted(part, subject)]
        edits: list[Edit] = []
        kept: list[str] = []
        for part in wanted[:MAX_PARTS]:
            try:
                edits += self._taken_out(part, subject.message)
            except ValueError as error:
                kept.append(f"{_told(part)}: {error}")
        if len(wanted) > MAX_PARTS:
            kept.append(f"more than {MAX_PARTS} attachments")
        return edits, [Label(name=NOT_STRIPPED, evidence="; ".join(kept)[:1_000])] if kept else []

    def _is_wanted(self, part: Part, subject: Subject) -> bool:
        parts = subject.message.parts
        own = tuple(file for file in subject.opened.files if 0 <= file.part < len(parts) and parts[file.part] is part)
        only = cast("Message", _Only(subject.message, part))
        opened = replace(subject.opened, files=own)
        return self._expression.holds(replace(subject, message=only, recipient=None, searched={}, known={}, opened=opened))

    def _taken_out(self, part: Part, message: Message) -> list[Edit]:
        """ValueError where it must stay."""
        for one in (*part.within, part):
            if _SEALED.fullmatch(one.content_type):
                raise ValueError(f"{one.content_type} stays as it is: others vouch for it, or nobody can look into it")
        note = f"{_told(part)}, {part.content_type}, {part.size} octets, sha256 {part.sha256}"
        if part.within and not self.notice:
            return [remove_part(part, note=note)]
        headers, body = _encoded(self._text(part))
        if part.within:
            return [replace_part(part, body, headers=headers, note=note)]
        fields = [*([] if message.field("MIME-Version") else [("MIME-Version", "1.0")]), *headers]
        return [*map(remove_header, _ITS_OWN), *(add_header(*field) for field in reversed(fields)), replace_body(body)]

    def _text(self, part: Part) -> str:
        return Template(self.notice).substitute(
            name=part.filename[:200] or "(none)", type=part.content_type, size=part.size, sha256=part.sha256
        )


class _Only:
    """A message of which an expression sees one attachment."""

    def __init__(self, message: Message, part: Part) -> None:
        self._message = message
        self.attachments = (part,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


def _about_one(text: str) -> Expression:
    """The expression, asked about one attachment. ValueError with the place of the mistake."""
    if not text.strip():
        raise ValueError("an expression about the attachment `a`: found an empty expression")
    try:
        expression = Expression(f"{_BEFORE}{text}{_AFTER}")
    except ExpressionError as error:
        moved = ExpressionError(error.what, max(0, error.at - len(_BEFORE)), allowed=error.allowed, hint=error.hint)
        raise ValueError(f"an expression about the attachment `a`: {explain(moved, text)}") from error
    if expression.is_about_recipient:
        raise ValueError("an expression about the attachment `a`; attachments are the same for every recipient")
    return expression


def _told(part: Part) -> str:
    return part.filename[:100] or "an attachment without a name"


def _encoded(text: str) -> tuple[list[tuple[str, str]], bytes]:
    """Fields and octets of a text part. No line of it begins as a boundary does."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    octets = "\r\n".join(lines).encode("utf-8", "replace")
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Disposition", "inline")]
    if octets.isascii() and not any(line.startswith("-") or len(line) > 998 for line in lines):  # RFC 2045 2.7
        return [*headers, ("Content-Transfer-Encoding", "7bit")], octets
    return [*headers, ("Content-Transfer-Encoding", "base64")], base64.encodebytes(octets).replace(b"\n", b"\r\n")

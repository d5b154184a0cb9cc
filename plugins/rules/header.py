"""What a rule does to the header section: a tag, fields that come, change and go, and the mark of junk (RFC 5322 3.6)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from gateway import Edit, Message, PluginOptions, add_header, remove_header, replace_header, tag_subject

_MANY = 50
"""Fields of one name that are removed one by one; of more all go, and the new one stands on top."""


def field_of(text: str) -> tuple[str, str]:
    """Name and body of `Name: value`. ValueError for what cannot be a field."""
    name, colon, body = text.partition(":")
    if not colon or not body.strip():
        raise ValueError('a field as "Name: value"')
    add_header(name, body.strip())
    return name, body.strip()


class TagTheSubject(PluginOptions):
    """`tag_subject`: a tag in front of the subject, never twice."""

    tag_subject: str

    @field_validator("tag_subject")
    @classmethod
    def _can_be(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a tag that is not blank")
        tag_subject(value)
        return value

    def edits(self, message: Message) -> list[Edit]:  # noqa: ARG002 - the same for every message
        """For `rewrite`."""
        return [tag_subject(self.tag_subject)]


class AddTheHeader(PluginOptions):
    """`add_header`: a new header field on top."""

    add_header: str
    """`Name: value`."""

    @field_validator("add_header")
    @classmethod
    def _can_be(cls, value: str) -> str:
        field_of(value)
        return value

    def edits(self, message: Message) -> list[Edit]:  # noqa: ARG002 - the same for every message
        """For `rewrite`."""
        return [add_header(*field_of(self.add_header))]


class ReplaceTheHeader(PluginOptions):
    """`replace_header`: the topmost field of this name gets another body, further ones go; where there is none, it is added."""

    replace_header: str
    """`Name: value`."""

    @field_validator("replace_header")
    @classmethod
    def _can_be(cls, value: str) -> str:
        field_of(value)
        return value

    def edits(self, message: Message) -> list[Edit]:
        """For `rewrite`."""
        name, body = field_of(self.replace_header)
        count = len(message.fields_named(name))
        if count > _MANY or message.header.is_cut:
            return [remove_header(name), add_header(name, body)]
        return [replace_header(name, body), *(remove_header(name, number) for number in range(1, count))]


class RemoveTheHeader(PluginOptions):
    """`remove_header`: all fields of these names go."""

    remove_header: str | tuple[str, ...] = Field(min_length=1)
    """A name, or a list of them."""

    @field_validator("remove_header")
    @classmethod
    def _can_be(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            remove_header(name)
        return value

    def edits(self, message: Message) -> list[Edit]:
        """For `rewrite`."""
        names = (self.remove_header,) if isinstance(self.remove_header, str) else self.remove_header
        return [remove_header(name) for name in names if message.field(name) or message.header.is_cut]


class Junk(PluginOptions):
    """`junk`: the message goes on with the field that the mailbox server files it into Junk by: the group's `junk_field`."""

    junk: Literal[True] = True


def cleared(field: str, message: Message) -> list[Edit]:
    """Copies of the mark that others made go."""
    name, _ = field_of(field)
    return [remove_header(name)] if message.field(name) or message.header.is_cut else []

"""Splice: edits carried out on the original octets. Whatever no edit names keeps its octets; size is known beforehand.

The rules, in one place:
- Edits are taken in order. A new field goes on top, so the one added last stands highest; `on_top` goes above them all.
- On top means: the first octet of the content, or behind an mbox line (`From …`), which MTAs take for no field.
- `occurrence` counts fields of the message as received; fields that other edits add are not counted and not removed.
- Of several edits of one field the last wins; a tag goes on what the subject then is. Replacing a field that is not
  there adds it.
- Fields that the section does not list (`fields.beyond`) are only reached by the removal of all fields of a name.
- A field that is inserted stands behind so many fields as received, removed ones counted; several at one place in the order they came.
- A new body takes the place of everything behind the header section; of several the last wins.
- A part is replaced where it stood in the message as received; of several edits of one part the last wins, of two that overlap the
  first. A new body takes the place of them all, whatever the order; so does a part of fields that lie in it.
- A message without any header section gets a blank line behind the new fields, so that its body stays body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gateway.content import CHUNK, Content, Form, Hashed
from gateway.edits import AddHeader, Edit, InsertHeader, RemoveHeader, ReplaceBody, ReplaceHeader, ReplacePart, TagSubject
from gateway.fields import HeaderField, HeaderSection, beyond, scan
from gateway.values import value
from gateway.words import decode_octets, decode_words, encode_words, encoded_run

_LINE: Final = 78  # RFC 5322 2.1.1


@value(frozen=True, slots=True)
class Cut:
    """The octets from start to end become others."""

    start: int
    end: int
    octets: bytes


class Spliced:
    """The content as it goes on: its size and its octets in pieces. As long-lived as the content."""

    def __init__(self, content: Content, cuts: Sequence[Cut]) -> None:
        self._content = content
        self._cuts = cuts
        self.size = content.size
        """Octets, exact."""
        for cut in cuts:
            self.size += len(cut.octets) - (cut.end - cut.start)

    @property
    def cuts(self) -> Sequence[Cut]:
        """What is changed, from the top."""
        return self._cuts

    @property
    def arriving(self) -> Hashed | None:
        """The body hashes of the content, where nothing is changed behind its header section."""
        arriving = self._content.arriving
        if arriving is None or any(cut.end > arriving.body_offset for cut in self._cuts):
            return None
        return arriving

    @property
    def form(self) -> Form:
        """How they may travel."""
        content = self._content
        if content.is_binary:
            return Form.BINARY
        cuts = self._cuts
        # Most end as they came: nothing is changed within their last two octets.
        if (not cuts or content.size - cuts[-1].end >= 2) and content.octets[content.size - 2 :] == b"\r\n":
            return Form.LINES
        return Form.LINES if self._end() in {b"\r\n", b""} else Form.UNENDED

    def _end(self) -> bytes:
        """The last two octets."""
        end, upto = b"", self._content.size
        for cut in reversed(self._cuts):
            if upto - cut.end >= 2:
                break
            end = cut.octets[-2:] + self._content.octets[cut.end : upto] + end
            upto = cut.start
            if len(end) >= 2:
                return end[-2:]
        return (self._content.octets[max(0, upto - 2) : upto] + end)[-2:]

    def chunks(self) -> Iterable[bytes]:
        """All octets, in pieces of about 256 KB; may be asked again."""
        cuts, content = self._cuts, self._content
        if not cuts:
            return content.chunks()
        if len(cuts) == 1 and content.size <= CHUNK:
            [cut] = cuts
            octets = content.octets
            return (octets[: cut.start] + cut.octets + octets[cut.end :],)
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        pieces: list[bytes] = []
        at = 0
        for cut in self._cuts:
            if cut.start - at > CHUNK:
                yield b"".join(pieces)
                pieces.clear()
                yield from self._content.chunks(at, cut.start)
            else:
                pieces.append(self._content.octets[at : cut.start])
            pieces.append(cut.octets)
            at = cut.end
        # As much of the rest as makes a piece with them, so that no small one follows.
        first = min(at + max(0, CHUNK - sum(map(len, pieces))), self._content.size)
        pieces.append(self._content.octets[at:first])
        yield b"".join(pieces)
        yield from self._content.chunks(first)


def below(on_top: bytes, content: Content, section: HeaderSection) -> Iterable[bytes]:
    """The chunks of `apply` without edits: what most messages are is one piece, the content as it came below our field."""
    if not section.top and section.has_fields and content.size <= CHUNK:
        return (on_top + content.octets[:],)
    return _with_top(content, on_top, section).chunks()


def rendered(fields: Sequence[AddHeader], *, utf8: bool) -> bytes:
    """The fields alone, the last on top, as `apply` writes them."""
    return b"".join(apply(Content(b""), fields, utf8=utf8).chunks())


def apply(
    content: Content,
    edits: Sequence[Edit],
    *,
    on_top: bytes = b"",
    utf8: bool = False,
    section: HeaderSection | None = None,
) -> Spliced:
    """The content with these edits, and whole fields (`on_top`, with CRLF each) above everything.

    `section`: the content's header section, where it is known already.
    With `utf8` (SMTPUTF8 was asked for) new values stay UTF-8; else non-ASCII ones become encoded words.
    """
    if not edits:
        return _with_top(content, on_top, section)
    if section is None:
        section = scan(content)
    fields = _Fields(content, section, utf8=utf8)
    body: bytes | None = None
    parts: dict[tuple[int, int], bytes] = {}
    for edit in edits:
        match edit:
            case ReplaceBody():
                body = edit.octets
            case ReplacePart():
                parts[edit.start, edit.end] = edit.octets
            case _:
                fields.carry_out(edit)
    top = on_top + b"".join(reversed(fields.added))
    cuts = [_top_cut(content, section, top)] if top else []
    cuts += [Cut(field.start, field.end, octets) for field, octets in fields.changed_in_order()]
    if fields.inserted or body is not None or parts:
        cuts += fields.insertions()
        if body is None:
            cuts = _with_parts(cuts, parts, section.body_offset, content.size)
        if body is not None:
            cuts = [cut for cut in cuts if cut.start < section.body_offset or cut.start == cut.end]
            cuts.append(
                Cut(
                    section.body_offset,
                    content.size,
                    _behind_header(content, section, has_insertion=section.end in fields.inserted) + body,
                )
            )
        cuts.sort(key=lambda cut: (cut.start, cut.end))  # stable: what goes on top stays in front
    return Spliced(content, cuts)


def _with_top(content: Content, on_top: bytes, section: HeaderSection | None) -> Spliced:
    """What most messages need: only the top must be known, and nothing below the first field is looked at for it."""
    if not on_top:
        return Spliced(content, ())
    return Spliced(content, (_top_cut(content, section or scan(content, max_fields=1), on_top),))


def _top_cut(content: Content, section: HeaderSection, top: bytes) -> Cut:
    at = section.top
    if not section.has_fields and not section.has_blank_line and content.size > at:
        top += b"\r\n"
    return Cut(at, at, top)


def _with_parts(cuts: list[Cut], parts: dict[tuple[int, int], bytes], body_offset: int, size: int) -> list[Cut]:
    """The cuts and those of parts, none of which overlap. What lies outside of the body is no part of this message."""
    new: list[Cut] = []
    for (start, end), octets in sorted(parts.items()):
        if body_offset <= start and end <= size and (not new or new[-1].end <= start):
            new.append(Cut(start, end, octets))
    if not new:
        return cuts
    first, last = new[0].start, new[-1].end
    kept = [one for one in cuts if one.end <= first or one.start >= last or not any(_overlap(one, part) for part in new)]
    return kept + new


def _overlap(one: Cut, other: Cut) -> bool:
    return one.start < other.end and other.start < one.end


def _behind_header(content: Content, section: HeaderSection, *, has_insertion: bool) -> bytes:
    """What a new body needs in front: a blank line, where there was none."""
    if section.has_blank_line or not section.has_fields:
        return b""
    return b"\r\n" if has_insertion or content.octets[section.end - 2 : section.end] == b"\r\n" else b"\r\n\r\n"


class _Fields:
    """The header section with the edits so far."""

    def __init__(self, content: Content, section: HeaderSection, *, utf8: bool) -> None:
        self._content = content
        self._section = section
        self._fields = section.fields
        self._beyond: dict[int, HeaderField] = {}
        self._changed: dict[int, bytes] = {}
        self._utf8 = utf8
        self.added: list[bytes] = []
        """In the order they were added; written the other way round."""
        self.inserted: dict[int, list[bytes]] = {}
        """By the offset they go to."""

    def carry_out(self, edit: AddHeader | InsertHeader | ReplaceHeader | RemoveHeader | TagSubject) -> None:
        match edit:
            case AddHeader():
                self.add(edit.name, edit.value)
            case ReplaceHeader():
                self.replace(edit)
            case RemoveHeader():
                self.remove(edit)
            case TagSubject():
                self.tag(edit.tag)
            case InsertHeader():
                self.insert(edit)

    def changed_in_order(self) -> list[tuple[HeaderField, bytes]]:
        """Changed and removed fields, from the top."""
        listed = [(self._fields[index], self._changed[index]) for index in sorted(self._changed)]
        return listed + [(self._beyond[start], b"") for start in sorted(self._beyond)]

    def add(self, name: str, value: str) -> None:
        self.added.append(self._render(name, value))

    def insert(self, edit: InsertHeader) -> None:
        if not self._fields:
            self.added.append(self._render(edit.name, edit.value))
            return
        at = self._fields[edit.below - 1].end if edit.below <= len(self._fields) else self._section.end
        self.inserted.setdefault(at, []).append(self._render(edit.name, edit.value))

    def insertions(self) -> list[Cut]:
        """What was inserted, as cuts."""
        found = []
        for at, fields in self.inserted.items():
            line_end = b"" if self._content.octets[at - 1 : at] == b"\n" else b"\r\n"
            found.append(Cut(at, at, line_end + b"".join(fields)))
        return found

    def replace(self, edit: ReplaceHeader) -> None:
        found = self._named(edit.name)
        if edit.occurrence < len(found):
            index = found[edit.occurrence]
            self._changed[index] = self._render(self._fields[index].name, edit.value)
        else:
            self.add(edit.name, edit.value)

    def remove(self, edit: RemoveHeader) -> None:
        found = self._named(edit.name)
        if edit.occurrence is not None:
            found = found[edit.occurrence : edit.occurrence + 1]
        else:
            self._beyond.update({one.start: one for one in beyond(self._content, self._section, edit.name)})
        self._changed.update(dict.fromkeys(found, b""))

    def tag(self, tag: str) -> None:
        """The tag in front of the subject, whose own octets stay; nothing when the subject has it already."""
        for index in self._named("subject"):
            now = self._changed.get(index, self._fields[index].octets)
            if now:
                self._changed[index] = self._tagged(now, tag)
                return
        for index, added in enumerate(self.added):
            if added[:8].lower() == b"subject:":
                self.added[index] = self._tagged(added, tag)
                return
        self.add("Subject", tag)

    def _tagged(self, field: bytes, tag: str) -> bytes:
        name, _, body = field.partition(b":")
        shown = decode_words(decode_octets(body.replace(b"\r\n", b"").replace(b"\n", b"")))
        if tag.strip().lower() in shown.lower():
            return field
        # Space between two encoded words is not shown (RFC 2047 6.2): there it belongs into the first.
        space = " " if body.lstrip().startswith(b"=?") else ""
        front = tag.encode() if tag.isascii() or self._utf8 else encoded_run(tag + space).encode()
        if not body.strip():
            return b"%s: %s\r\n" % (name, front)
        first_line = body.partition(b"\n")[0].strip()
        join = b" " if len(name) + len(front) + len(first_line) + 3 <= _LINE else b"\r\n "
        return b"%s: %s%s%s" % (name, front, join, body.lstrip(b" \t"))

    def _named(self, name: str) -> list[int]:
        wanted = name.lower()
        return [index for index, field in enumerate(self._fields) if field.name.lower() == wanted]

    def _render(self, name: str, value: str) -> bytes:
        text = value if self._utf8 else encode_words(value)
        return f"{name}: {text}\r\n".encode("utf-8", "replace")

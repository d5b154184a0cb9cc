"""Open every file of a message and what is in it, the container first. Readers do the formats; the order and the limits are here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from gateway.files.found import Budget, Found, Given, LimitError, MalformedError, Member, Octets, Sign, Trouble
from gateway.files.kinds import closer_type
from gateway.files.readers import reader_for
from gateway.files.values import File, FileBounds, Opened, Unopened

MOST_NAMES = 8
_NAME = 255
_PATH = 1_000
_SHORT_TAR = frozenset(("tgz", "tbz", "tbz2", "txz", "tlz", "tzst"))
_NOTES = 200
"""Files that are named in `Opened.unopened`; the words of the rest are kept all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    path: str
    depth: int
    container: str
    part: int
    ancestors: tuple[str, ...]


def open_all(given: Iterable[Given], bounds: FileBounds) -> Opened:
    """All files. Never raises for any octets, save what ends the process from outside."""
    walk = Walk(bounds)
    walk.run(given)
    return walk.opened()


class Walk:
    """One message."""

    def __init__(self, bounds: FileBounds, seen: Callable[[File, Octets], None] | None = None) -> None:
        """`seen`: called with each file whose content is known, before what is in it. An Exception of it is that file's trouble."""
        self._budget = Budget(bounds)
        self._seen = seen
        self._files: list[File] = []
        self._words: dict[str, None] = {}
        self._notes: list[Unopened] = []

    def opened(self) -> Opened:
        """What was found so far."""
        return Opened(files=tuple(self._files), limits_hit=tuple(sorted(self._words)), unopened=tuple(self._notes))

    def run(self, given: Iterable[Given]) -> None:
        """Each attachment; past a limit of the whole message the rest is only listed."""
        is_over = False
        for one in given:
            front = "".join(f"{_shown(name) or 'message'}/" for name in one.within)
            kind = "message" if one.within else ""
            place = _Place(path=front, depth=len(one.within), container=kind, part=one.part, ancestors=())
            member = Member(names=one.names, content=one.content, declared_type=one.declared_type, signs=one.signs)
            before = len(self._files)
            try:
                if is_over:
                    self._list(replace(member, content=None, size=len(one.content)), place)
                elif not one.is_open:
                    self._budget.one_more()
                    listed = self._list(member, place)
                    self._files[-1] = replace(listed, type="message/rfc822", sha256=hashlib.sha256(one.content).hexdigest())
                else:
                    self._take(member, place)
            except LimitError:  # a final one, noted where it was met
                is_over = True
                if len(self._files) == before:
                    self._list(replace(member, content=None, size=len(one.content)), place)
            if len(self._files) > 2 * self._budget.bounds.count:
                break

    def stop(self, word: str, reason: str) -> None:
        """From outside: there is no time or memory left."""
        self._note("", LimitError(word, reason))

    def _note(self, path: str, trouble: LimitError | Trouble) -> None:
        self._words[trouble.word] = None
        if len(self._notes) < _NOTES:
            self._notes.append(Unopened(word=trouble.word, path=path, reason=trouble.reason[:300]))

    def _list(self, member: Member, place: _Place) -> File:
        names = tuple(dict.fromkeys(filter(None, map(_shown, member.names))))[:MOST_NAMES]
        bare = tuple(dict.fromkeys(filter(None, map(_last, names))))
        file = File(
            name=bare[0] if bare else "",
            names=bare,
            path=(place.path + (names[0] if names else f"{len(self._files) + 1}"))[:_PATH],
            declared_type=member.declared_type[:200],
            size=len(member.content) if member.content is not None else member.size,
            is_encrypted=member.is_encrypted,
            container=place.container,
            depth=place.depth,
            part=place.part,
            signs=member.signs,
            target=_shown(member.target, 2_000),
        )
        self._files.append(file)
        if member.trouble is not None:
            self._note(file.path, member.trouble)
        return file

    def _take(self, member: Member, place: _Place) -> None:
        """One file, and what is in it. LimitError: a final one."""
        try:
            self._budget.one_more()
        except LimitError as error:
            self._note(place.path.removesuffix("/"), error)
            raise
        file = self._list(member, place)
        at = len(self._files) - 1
        content = member.content
        if content is None:
            return
        digest = hashlib.sha256(content).hexdigest()
        file = self._files[at] = replace(file, type=closer_type(content, file.names), sha256=digest)
        if self._seen is not None:
            self._seen(file, content)
        reader = reader_for(file, content)
        if reader is None:
            return
        container, read = reader
        inner = _Place(
            path=f"{file.path}/",
            depth=place.depth + 1,
            container=container,
            part=place.part,
            ancestors=(*place.ancestors, digest),
        )
        if digest in place.ancestors:
            self._note(file.path, LimitError("files-recursion", "it holds itself"))
            return
        self._budget.live += len(content)
        try:
            self._look_into(read(content, self._budget), at, inner)
        finally:
            self._budget.live -= len(content)

    def _look_into(self, found: Iterator[Found], at: int, inner: _Place) -> None:
        """Each thing that a reader finds in the file at this place of the list."""
        path = self._files[at].path
        try:
            for one in found:
                match one:
                    case Member():
                        self._inner(one if one.names else replace(one, names=_without_ending(path)), inner, path)
                        if one.is_encrypted:
                            self._files[at] = replace(self._files[at], is_encrypted=True)
                    case Sign():
                        self._files[at] = _signed(self._files[at], one)
                    case Trouble():
                        self._note(path, one)
        except LimitError as error:
            if error.is_final and error.word in self._words and any(note.word == error.word for note in self._notes[-1:]):
                raise
            self._note(path, error)
            if error.is_final:
                raise
        except MemoryError:
            self._note(path, LimitError("files-memory", "more memory than is allowed"))
        except MalformedError as error:
            self._note(path, LimitError("files-malformed", str(error)))
        except Exception as error:  # noqa: BLE001 - protects the other files from what a library makes of hostile octets
            self._note(path, LimitError("files-malformed", f"{type(error).__name__}: {error}"))

    def _inner(self, member: Member, inner: _Place, path: str) -> None:
        if inner.depth > self._budget.bounds.depth:
            raise LimitError("files-depth", f"more than {self._budget.bounds.depth} files inside one another at {path}")
        self._take(member, inner)


def _signed(file: File, sign: Sign) -> File:
    signs = file.signs if not sign.word or sign.word in file.signs else (*file.signs, sign.word)
    return replace(
        file,
        signs=signs[:30],
        is_encrypted=file.is_encrypted or sign.is_encrypted,
        has_macros=file.has_macros or sign.has_macros,
        type=sign.type or file.type,
        target=file.target or _shown(sign.target, 2_000),
    )


def _shown(name: str, most: int = 4 * _NAME) -> str:
    """On one line, without what a terminal or page would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name[:most])


def _without_ending(path: str) -> tuple[str, ...]:
    """The name of what a compressed stream holds, as the programs that unpack it make it."""
    stem, dot, ending = _last(path).rpartition(".")
    if not dot or not stem:
        return ()
    return (stem + ".tar" if ending.lower() in _SHORT_TAR else stem,)


def _last(name: str) -> str:
    """Without the directories in front: both kinds of slash, since both are followed somewhere."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2][-_NAME:]

"""Precision and recall of the plugin `learning` on held-out mail, beside Bogofilter where it is installed.

    make learning                                            # mail of Bogofilter's own tests, old and little
    make learning ARGS='--ham good.mbox --spam bad.mbox'     # your own

Cross-validation: the mail is cut into parts at random; each part is judged by what was learnt of the others; several times over. A message
counts as spam from 0.95 on and as ham up to 0.05, the defaults of the plugin; Bogofilter has its own.
"""

from __future__ import annotations

import argparse
import mailbox
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.content import Content
from gateway.learning import Kind, Known, Lesson, judge, lesson_of, read_message
from gateway.message import Message
from gateway.plugins.learning import Options
from gateway.smtp.dotstream import normalised

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mailgateway-tests", "spam-mail")
PEER = ("bogofilter", "bogofilter-sqlite")
_ANSWERS: dict[int, str] = {0: "spam", 1: "ham", 2: "unsure"}
"""Exit codes of Bogofilter."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A message of which it is known what it is."""

    octets: bytes
    kind: Kind
    lesson: Lesson


Judge = Callable[[Sequence[Mail], Sequence[Mail]], list[str]]
"""Learn the first, answer about each of the second: `spam`, `ham`, `unsure`."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ham", type=Path, action="append", help="a mailbox (mbox) of mail that people want")
    parser.add_argument("--spam", type=Path, action="append", help="a mailbox of spam")
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        ham, spam = (options.ham or [], options.spam or []) if options.ham or options.spam else _fetched(Path(directory))
        mail = [*_read(ham, "ham"), *_read(spam, "spam")]
        counts = Counter(one.kind for one in mail)
        if min(counts["ham"], counts["spam"]) < options.parts:
            sys.exit(f"too little mail: {counts['ham']} ham, {counts['spam']} spam; benchmarks/install-spam-mail fetches some")
        print(f"{counts['ham']} ham, {counts['spam']} spam; {options.parts} parts, {options.times} times\n")
        print("| classifier | precision | recall | ham taken for spam | spam taken for ham | unsure |")
        print("|---|---|---|---|---|---|")
        for name, judging in _judges(Path(directory)):
            print(_row(name, _answers(mail, judging, options.parts, options.times)))


def _fetched(directory: Path) -> tuple[list[Path], list[Path]]:
    """The mailboxes of Bogofilter's tests, out of its archive."""
    place = Path(os.environ.get("MAILGATEWAY_SPAM_MAIL") or CACHE)
    for archive in sorted(place.glob("bogofilter_*.orig.tar.*")):
        with tarfile.open(archive) as opened:
            for member in opened:
                name = Path(member.name).name
                if member.isfile() and name in {"good.mbx", "spam.mbx"} and (file := opened.extractfile(member)) is not None:
                    (directory / name).write_bytes(file.read())
    found = [directory / "good.mbx"], [directory / "spam.mbx"]
    return found if all(one.exists() for (one,) in found) else ([], [])


def _read(files: Sequence[Path], kind: Kind) -> Iterator[Mail]:
    for file in files:
        box = mailbox.mbox(file, create=False)
        for key in box.iterkeys():
            octets = box.get_bytes(key)
            yield Mail(octets, kind, lesson_of(read_message(Message(Content(normalised(octets))))))


def _judges(directory: Path) -> Iterator[tuple[str, Judge]]:
    yield "`learning`", _by_learning
    program = next(filter(None, map(shutil.which, PEER)), None)
    if program is not None:
        yield "Bogofilter", lambda learnt, asked: _by_bogofilter(program, directory, learnt, asked)


def _by_learning(learnt: Sequence[Mail], asked: Sequence[Mail]) -> list[str]:
    counts: dict[Kind, Counter[int]] = {"ham": Counter(), "spam": Counter()}
    sums = Counter(one.kind for one in learnt)
    for one in learnt:
        counts[one.kind].update(one.lesson.words.keys())
    every = counts["ham"].keys() | counts["spam"].keys()
    known = Known(sums["ham"], sums["spam"], {token: (counts["ham"][token], counts["spam"][token]) for token in every})
    options = Options()
    found = [judge(one.lesson.words, known).probability for one in asked]
    return ["spam" if one >= options.spam_from else "ham" if one <= options.ham_to else "unsure" for one in found]


def _by_bogofilter(program: str, directory: Path, learnt: Sequence[Mail], asked: Sequence[Mail]) -> list[str]:
    words = Path(tempfile.mkdtemp(dir=directory))
    for kind, flag in (("spam", "-s"), ("ham", "-n")):
        box = b"\n".join(b"From a Thu Nov 28 00:00:00 2002\n" + one.octets for one in learnt if one.kind == kind)
        subprocess.run([program, "-C", "-d", str(words), "-M", flag], input=box, check=True)
    return [
        _ANSWERS.get(subprocess.run([program, "-C", "-d", str(words)], input=one.octets, check=False).returncode, "failed")
        for one in asked
    ]


def _answers(mail: Sequence[Mail], judging: Judge, parts: int, times: int) -> list[tuple[Kind, str]]:
    found: list[tuple[Kind, str]] = []
    for seed in range(times):
        mixed = list(mail)
        random.Random(seed).shuffle(mixed)
        for part in range(parts):
            learnt = [one for n, one in enumerate(mixed) if n % parts != part]
            asked = mixed[part::parts]
            found += zip((one.kind for one in asked), judging(learnt, asked), strict=True)
    return found


def _row(name: str, answers: Sequence[tuple[Kind, str]]) -> str:
    counts = Counter(answers)
    as_spam = counts["spam", "spam"] + counts["ham", "spam"]
    all_spam = sum(number for (kind, _), number in counts.items() if kind == "spam")
    precision = counts["spam", "spam"] / as_spam if as_spam else float("nan")
    unsure = sum(number for (_, answer), number in counts.items() if answer == "unsure") / len(answers)
    return (
        f"| {name} | {precision:.3f} | {counts['spam', 'spam'] / all_spam:.3f} | {counts['ham', 'spam']} of {len(answers) - all_spam} "
        f"| {counts['spam', 'ham']} of {all_spam} | {unsure:.1%} |"
    )


if __name__ == "__main__":
    main()

"""The plugin `lists`: entries, whom they are for, what authentication an allowed sender needs, and classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Accept, AuthResult, Context, Discard, Finding, Message, Plugin, Quarantine, Reject, hook
from gateway.plugins import lists as module
from gateway.plugins.lists import Lists, Options, read_lists
from gateway.testing import FakeContext, a_message, a_recipient, a_transaction, run_chain

LISTS = """\
# whose        what   sender
bob@example.org   deny  spammer@shop.example
bob@example.org   deny  *.ads.example
Bob@Example.org   allow boss@work.example
carol@example.org deny  ads.example   # not what is below it
carol@example.org allow friend.example
@example.net      deny  shop.example
"""
PASS = [
    AuthResult(method="dmarc", result="pass"),
    AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", "news@friend.example"),)),
]


class Found(Plugin):
    """Stands for spf and dmarc."""

    findings: tuple[Finding, ...] = ()

    @hook(cheap=True)
    def check(self, message: Message) -> tuple[Finding, ...]:
        return self.findings


async def run(
    directory: Path, *recipients: str, author: str, reverse_path: str = "x@y.example", found: Any = (), **more: Any
) -> dict[str, Any]:
    (directory / "lists").write_text(LISTS)
    before = Found(name="found")
    before.findings = tuple(found)
    plugin = Lists(Options.model_validate({"file": str(directory / "lists"), **more}), name="lists")
    done = await run_chain(
        [before, plugin],
        transaction=a_transaction(reverse_path=reverse_path, recipients=recipients),
        message=a_message(from_=author),
    )
    return {mailbox: None if one is None else one.verdict for mailbox, one in done.decisions.items()}


@pytest.mark.parametrize(
    ("recipient", "author", "refused"),
    [
        ("bob@example.org", "Spammer@Shop.example", True),
        ("BOB+x@example.org", "spammer@shop.example", True),
        ("bob@example.org", "other@shop.example", False),
        ("bob@example.org", "a@b.ads.example", True),
        ("bob@example.org", "a@b.c.ads.example", True),
        ("bob@example.org", "a@ads.example", False),
        ("carol@example.org", "a@ads.example", True),
        ("carol@example.org", "a@b.ads.example", False),
        ("dave@example.org", "spammer@shop.example", False),
        ("anybody@example.net", "spammer@shop.example", True),
    ],
)
async def test_a_denied_author_is_refused_for_who_denies_it(tmp_path: Path, recipient: str, author: str, refused: bool) -> None:
    verdict = (await run(tmp_path, recipient, author=author))[recipient]
    assert isinstance(verdict, Reject) is refused
    if refused:
        assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.7.1", "listed-deny")


async def test_the_reverse_path_counts_too_and_others_get_the_message(tmp_path: Path) -> None:
    verdicts = await run(
        tmp_path, "bob@example.org", "carol@example.org", author="a@b.example", reverse_path="spammer@shop.example"
    )
    assert isinstance(verdicts["bob@example.org"], Reject)
    assert verdicts["carol@example.org"] is None


@pytest.mark.parametrize(("then", "kind"), [("discard", Discard), ("quarantine", Quarantine)])
async def test_what_becomes_of_it_is_an_option(tmp_path: Path, then: str, kind: type) -> None:
    assert isinstance((await run(tmp_path, "bob@example.org", author="a@b.ads.example", then=then))["bob@example.org"], kind)


@pytest.mark.parametrize(
    ("author", "reverse_path", "found", "more", "allowed"),
    [
        ("boss@work.example", "x@y.example", PASS[:1], {}, True),
        ("boss@work.example", "x@y.example", PASS[1:], {}, False),
        ("boss@work.example", "x@y.example", (), {}, False),
        ("boss@work.example", "x@y.example", (), {"unauthenticated": True}, True),
        ("boss@work.example, eve@evil.example", "x@y.example", PASS[:1], {}, False),
        ("other@work.example", "boss@work.example", PASS, {}, False),
    ],
)
async def test_an_allowed_sender_needs_somebody_who_vouches(
    tmp_path: Path, author: str, reverse_path: str, *, found: Any, more: Any, allowed: bool
) -> None:
    verdict = (await run(tmp_path, "bob@example.org", author=author, reverse_path=reverse_path, found=found, **more))[
        "bob@example.org"
    ]
    assert isinstance(verdict, Accept) is allowed


async def test_spf_vouches_for_the_reverse_path_only(tmp_path: Path) -> None:
    path = "news@friend.example"
    passed = await run(tmp_path, "carol@example.org", author="a@ads.example", reverse_path=path, found=PASS[1:])
    assert isinstance(passed["carol@example.org"], Accept)  # allow before deny
    failed = await run(tmp_path, "carol@example.org", author="a@ads.example", reverse_path=path)
    assert isinstance(failed["carol@example.org"], Reject)


async def test_users_with_equal_lists_are_one_class(tmp_path: Path) -> None:
    (tmp_path / "lists").write_text("a@x.example deny q.example\nb@x.example deny q.example\nc@x.example deny r.example\n")
    plugin = Lists(Options(file=str(tmp_path / "lists")))
    await plugin.startup(cast("Context", FakeContext()))
    a, b, c, nobody = (plugin.policy_class(a_recipient(f"{name}@x.example")) for name in "abcd")
    assert a == b != c
    assert nobody is None


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"bob@example.org deny\n", ":1: found 'bob@example.org deny'"),
        (b"\nbob@example.org refuse x.example\n", ":2: "),
        (b"bob deny x.example\n", ":1: "),
        (b"bob@example.org deny x@\n", ":1: "),
        (b"bob@example.org deny \xff.example\n", ":1: not UTF-8"),
        (b"# " + b"x" * 1_000, ":1: more than 1000"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, octets: bytes, why: str) -> None:
    (tmp_path / "lists").write_bytes(octets)
    with pytest.raises(ValueError, match=why):
        read_lists(tmp_path / "lists")


def test_lists_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lists").write_text("".join(f"bob@x.example deny d{n}.example\n" for n in range(4)))
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    with pytest.raises(ValueError, match="4: more than 3 entries"):
        read_lists(tmp_path / "lists")
    monkeypatch.setattr(module, "MAX_FILE", 10)
    with pytest.raises(ValueError, match="more than 10 octets"):
        read_lists(tmp_path / "lists")


@given(st.text(max_size=60))
async def test_no_author_makes_it_fail(tmp_path_factory: pytest.TempPathFactory, author: str) -> None:
    await run(tmp_path_factory.getbasetemp(), "bob@example.org", author=author.replace("\r", "").replace("\n", ""))

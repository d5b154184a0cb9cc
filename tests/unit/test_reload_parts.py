"""The parts of a reload: what needs a restart, which files are looked at, fresh code, commands. gateway.server, gateway.config.restart."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from gateway import freshness
from gateway.config.load import load
from gateway.config.models import Config
from gateway.config.restart import settle
from gateway.discovery import Origin
from gateway.discovery import load as load_plugin
from gateway.freshness import forget, import_fresh
from gateway.server.channel import Channel, read_configuration, write_configuration
from gateway.server.control import Control, ControlError, command, running
from gateway.server.facts import facts_of
from gateway.server.slots import Slots
from gateway.server.watch import Watch, watched_files


def test_what_needs_a_restart_keeps_its_value_and_the_rest_is_applied() -> None:
    before = Config.model_validate(
        {"server": {"workers": 2, "name": "a.test"}, "listener": [{"name": "mx", "bind": "127.0.0.1:1"}]}
    )
    wanted = Config.model_validate(
        {
            "server": {"workers": 3, "name": "b.test"},
            "listener": [{"name": "mx", "bind": "127.0.0.1:2", "vrfy": "off"}, {"name": "more", "bind": "127.0.0.1:3"}],
            "journal": {"retention": "1d"},
            "limits": {"errors": 7},
        }
    )
    config, keys = settle(before, wanted)
    assert keys == ["server.workers", "journal.retention", "listener.mx.bind", "listener.more (it is not opened)"]
    assert (config.server.workers, config.server.name, config.limits.errors) == (2, "b.test", 7)
    assert [(one.name, one.bind, one.vrfy) for one in config.listener] == [("mx", "127.0.0.1:1", "off")]
    assert config.journal == before.journal
    assert settle(config, wanted)[1] == keys
    assert settle(wanted, before)[1][-1] == "listener.more (it goes on as it was)"
    assert settle(wanted, wanted) == (wanted, [])


def test_a_change_counts_once_it_has_rested(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    watch = Watch(1.0)
    watch.settle([str(file)])
    assert watch.changed([str(file)]) == []
    file.write_text("22")
    assert watch.changed([str(file)]) == []
    file.write_text("333")
    assert watch.changed([str(file)]) == []
    assert watch.changed([str(file)]) == [str(file)]
    assert watch.changed([str(file)]) == []
    file.unlink()
    assert watch.changed([]) == []
    assert watch.changed([]) == [str(file)]
    assert [watch.is_due(now) for now in (5.0, 5.5, 6.0)] == [True, False, True]
    assert not Watch(0).is_due(100)


def test_files_that_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.toml").write_text('plugin_path = ["p"]\nrule_files = ["r.toml"]\n')
    (tmp_path / "conf" / "p").mkdir()
    (tmp_path / "conf" / "p" / "x.py").touch()
    loaded = load(tmp_path / "conf", environ={})
    (tmp_path / "conf" / "b.toml").touch()
    names = [str(Path(file).relative_to(tmp_path)) for file in watched_files(facts_of(loaded), [str(tmp_path / "q")])]
    assert names == ["conf/a.toml", "conf/b.toml", "conf/p/x.py", "conf/r.toml", "q"]


def test_a_file_is_a_module_of_its_own_each_time_and_gone_when_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "thing.py"
    source = "from gateway import Plugin\nclass Thing(Plugin):\n    number = {}\n"
    file.write_text(source.format(1))
    origin = Origin(name="thing", target=str(file), is_file=True)
    first = load_plugin(origin)
    stat = file.stat()
    file.write_text(source.format(2))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # Python's own cache of compiled code would not see the change
    second = load_plugin(origin)
    assert (first.number, second.number) == (1, 2)  # type: ignore[attr-defined]
    names = [first.__module__, second.__module__]
    assert names == ["mailgateway_site.thing", "mailgateway_site.thing@2"]
    forget(names)
    assert not [name for name in sys.modules if name.startswith("mailgateway_site.thing")]


def test_a_package_is_loaded_anew_when_one_of_its_files_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "reloaded_package"
    package.mkdir()
    (package / "__init__.py").write_text("from reloaded_package.inner import number\n")
    (package / "inner.py").write_text("number = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = import_fresh("reloaded_package")
    assert import_fresh("reloaded_package") is first
    (package / "inner.py").write_text("number = 22\n")
    second = import_fresh("reloaded_package")
    assert (first.number, second.number) == (1, 22)
    (package / "inner.py").write_text("number = ")
    for _ in range(2):
        with pytest.raises(SyntaxError):
            import_fresh("reloaded_package")
        assert sys.modules["reloaded_package"] is second
    (package / "inner.py").write_text("number = 333\n")
    assert import_fresh("reloaded_package").number == 333
    forget(["reloaded_package", "reloaded_package.inner"])


def test_the_gateway_itself_is_never_loaded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    import gateway

    first = import_fresh("gateway.plugins.iprev")
    monkeypatch.setattr(freshness, "stamp", lambda _: None)
    assert import_fresh("gateway.plugins.iprev") is first
    assert sys.modules["gateway"] is gateway


def test_a_command_and_its_answer_also_below_a_very_long_path(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120) / "run" / str(os.getpid())
    directory.mkdir(parents=True)
    control = Control(directory / "control")
    assert running(directory.parent.parent) == [(os.getpid(), directory / "control")]
    assert (directory / "control").stat().st_mode & 0o777 == 0o600
    answers: list[dict[str, object]] = []
    asking = threading.Thread(target=lambda: answers.append(command(directory / "control", "reload", limit=20)))
    asking.start()
    while not (asked := control.commands()):
        pass
    ((line, client),) = asked
    client.answer({"ok": True, "said": line})
    asking.join(20)
    assert answers == [{"ok": True, "said": "reload"}]
    control.close()
    with pytest.raises(ControlError, match="does not answer"):
        command(directory / "control", "reload", limit=1)


def test_a_configuration_goes_over_the_channel(tmp_path: Path) -> None:
    import socket

    (tmp_path / "config.toml").write_text('[server]\nname = "a.test"\n')
    loaded = load(tmp_path / "config.toml", environ={})
    here, there = (Channel(end) for end in socket.socketpair())
    with write_configuration(loaded) as file:
        here.say("prepare", file=file, number=3)
        here.say("abort", number=3)
    assert [*there.heard(), *there.heard()] == [{"what": "prepare", "number": 3}, {"what": "abort", "number": 3}]
    received = there.take_file()
    assert received is not None
    with received:
        assert read_configuration(received) == loaded
    assert there.take_file() is None
    here.close()
    assert there.heard() == []
    assert there.is_over
    there.close()


def test_routes_keep_their_places_and_a_refusal_is_told() -> None:
    slots = Slots(1, ["a", "b"])
    slot = slots[0]
    slot.take(1)
    slot.note_health("b", True)
    slots.follow(["b", "c"])
    assert slots.routes == ("b", "c")
    assert slot.answered("b") is not None
    assert slot.answered("c") is None
    with pytest.raises(ValueError, match="there is room for 64"):
        slots.follow([str(number) for number in range(65)])
    slots.refusal, slots.generation, slot.generation = "why not: ü" + "x" * 2000, 4, 3
    assert slots.refusal.startswith("why not: ü")
    assert (slots.generation, slot.generation, slots.draining) == (4, 3, False)
    slots.refusal = ""
    assert slots.refusal == ""


def test_a_configuration_that_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    from gateway.server.checking import check

    file = tmp_path / "config.toml"
    file.write_text('plugins = []\n[[route]]\ndomains = ["a.test"]\nservers = ["127.0.0.1:1"]\n')
    loaded = load(file, environ={})
    checked, found = check(loaded, 64)
    assert (list(checked.problems), found) == ([], loaded)
    assert "a reload has room for 0" in check(loaded, 0)[0].problems[0]
    file.write_text(file.read_text().replace("[]", '["nothing"]'))
    checked, found = check(loaded, 64)
    assert found is None
    assert f"{file}:1: plugins[0]: found the unknown plugin 'nothing'" in checked.problems[0]

"""Plugins found, validated and ordered; every mistake at once, with file and line and the nearest right name."""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import os
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway import ConfigError, Context, Plugin, PluginError, PluginOptions, Verdict, hook, plugin_context, quarantine, reject
from gateway.config.load import load
from gateway.discovery import GROUP, SITE
from gateway.generation import Generation
from gateway.plugin_context import PluginContexts
from gateway.session import ClientClass
from gateway.testing import FakeResolver, MemoryStore, a_message, a_transaction
from tests.docs.blocks import TOP, of_page

ROUTE = '[[route]]\ndomains = ["example.org"]\nservers = ["127.0.0.1:2526"]\n'
TICKETS = '''"""A site's own plugin, one file outside of any package."""

from __future__ import annotations

from gateway import Message, Plugin, PluginOptions, Verdict, hook, reject


class Options(PluginOptions):
    word: str = "ticket"


class Tickets(Plugin[Options]):
    @hook
    async def judge(self, message: Message) -> Verdict | None:
        return None if self.options.word in message.subject else reject(f"no {self.options.word}")
'''
HERE = "tests_generation_plugins"


class Options(PluginOptions):
    word: str = "x"
    limit: int = 3


class Named(Plugin[Options]):
    @hook
    async def judge(self) -> Verdict:
        return quarantine(f"{self.name}-{self.options.word}")


class Lives(Plugin):
    log: list[str] = []  # noqa: RUF012 - shared by the objects of a test

    @hook
    async def startup(self, context: Context) -> None:
        assert context is self.context
        self.log.append(f"{self.name} up")
        if self.name == "fails":
            raise LookupError("no table")

    @hook
    def shutdown(self) -> None:
        self.log.append(f"{self.name} down")
        raise OSError("recorded only")


class Unmarked(Plugin):
    async def judge(self) -> None:
        """Lacks @hook."""


class UnmarkedOverride(Named):
    async def judge(self) -> Verdict:  # lacks @hook too
        return reject("x")


class Misspelt(Plugin):
    @hook
    async def juge(self) -> None: ...

    @hook
    async def rcpt(self, recipent: object) -> None: ...

    @hook
    async def data(self, *args: object) -> None: ...


class Refuses(Plugin):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise LookupError("no key file")


class CircleA(Plugin):
    gives: ClassVar[tuple[str, ...]] = ("a",)
    needs: ClassVar[tuple[str, ...]] = ("b",)

    @hook
    async def check(self) -> None: ...


class CircleB(CircleA):
    gives: ClassVar[tuple[str, ...]] = ("b",)
    needs: ClassVar[tuple[str, ...]] = ("a",)


NOT_A_PLUGIN = 7


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file as a module that a dotted path can name."""
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])
    Lives.log.clear()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory of single-file plugins outside the repository."""
    directory = tmp_path / "site"
    directory.mkdir()
    (directory / "tickets.py").write_text(TICKETS)
    return directory


async def generation(tmp_path: Path, text: str, **more: Any) -> Generation:
    file = tmp_path / "config.toml"
    file.write_text(text + ROUTE)
    loaded = load(file, environ={})
    return await Generation.load(loaded.config, locate=loaded.locate, directory=loaded.directory, **more)


async def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        await generation(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


async def verdict(made: Generation, subject: str = "Hello", listener: str = "default") -> Any:
    transaction = a_transaction()
    await made.chain(listener).decide(transaction, a_message(subject=subject))
    decision = transaction.recipients[0].decision
    return None if decision is None else decision.verdict


# Finding


async def test_a_one_file_plugin_from_outside_the_repository(tmp_path: Path, site: Path) -> None:
    before = list(sys.path)
    text = 'plugins = ["tickets"]\nplugin_path = ["site"]\n[plugin.tickets]\nword = "order"\n'
    made = await generation(tmp_path, text)
    assert await verdict(made, "my order") is None
    assert await verdict(made) == reject("no order")
    assert sys.path == before
    ((module, name),) = made.modules.items()
    assert (module.partition("@")[0], name) == (f"{SITE}.tickets", "tickets")  # `@2` where a generation before has one still
    assert made.plugins["tickets"].hooks == ("judge",)
    assert str(made.plugins["tickets"].found.origin) == f"file {site / 'tickets.py'}"


async def test_a_changed_file_makes_another_generation(tmp_path: Path, site: Path) -> None:
    text = 'plugins = ["tickets"]\nplugin_path = ["site"]\n'
    first = await generation(tmp_path, text)
    (site / "tickets.py").write_text(TICKETS.replace('"no ', '"without ').replace('f"no', 'f"without'))
    second = await generation(tmp_path, text)
    assert first.id != second.id
    assert (await verdict(first), await verdict(second)) == (reject("no ticket"), reject("without ticket"))
    assert (await generation(tmp_path, text)).id == second.id


async def test_a_site_file_named_as_a_library_does_not_hide_it(tmp_path: Path, site: Path) -> None:
    (site / "dkim.py").write_text(TICKETS + "\nimport dkim\n\nassert dkim.DKIM\n")
    found = await problems(tmp_path, 'plugins = ["dkim"]\nplugin_path = ["site"]\n')
    assert "the plugin 'dkim' twice: gateway.plugins.dkim:Dkim of mailgateway" in found[0]
    assert f"and file {site / 'dkim.py'}" in found[0]
    (site / "dkim.py").rename(site / "nacl.py")  # PyNaCl
    assert await verdict(await generation(tmp_path, 'plugins = ["nacl"]\nplugin_path = ["site"]\n')) == reject("no ticket")


def example(name: str) -> str:
    """The configuration of a plugin on its page, without a chain of its own."""
    blocks = (block.text for block in of_page(TOP / "docs" / "plugins" / f"{name}.md") if block.language == "toml")
    text = next(text for text in blocks if f"[plugin.{name}]" in text)
    return text[text.index(f"[plugin.{name}]") :]


async def test_bundled_plugins_are_found_as_any_other(tmp_path: Path) -> None:
    names = {point.name for point in importlib.metadata.entry_points(group=GROUP)}
    key = tmp_path / "key"
    key.write_text(base64.b64encode(bytes(range(32))).decode())
    key.chmod(0o600)
    (tmp_path / "yara").mkdir()
    (tmp_path / "yara" / "one.yar").write_text("rule One { condition: true }\n")
    (tmp_path / "secrets").mkdir()
    for number in range(2):
        (tmp_path / "secrets" / f"batv-{number}").write_text("a secret of some length")
    for script in ("site.sieve", "lists.sieve"):
        (tmp_path / script).write_text("keep;\n")
    signs = 'domain = "example.org"\nselector = "s"\nfile = "key"\n'
    needed = f"[[plugin.dkim_sign.key]]\n{signs}[plugin.arc_seal]\n{signs}"
    needed += "".join(example(name) for name in names - {"dkim_sign", "arc_seal", "rules"})
    made = await generation(tmp_path, f"plugins = {sorted(names)!r}\n{needed}")
    assert set(made.plugins) == names
    assert all(loaded.found.origin.distribution == "mailgateway" for loaded in made.plugins.values())


async def test_one_plugin_under_two_names_in_the_order_of_the_configuration(tmp_path: Path) -> None:
    text = (
        f'plugins = [{{ name = "second", use = "{HERE}:Named", word = "b", mode = "monitor" }}, "first"]\n'
        f'[plugin.first]\nuse = "{HERE}:Named"\nword = "a"\ntimeout = "2s"\non_error = {{ trusted = "ignore" }}\nskip = ["authenticated"]\n'
    )
    made = await generation(tmp_path, text)
    assert list(made.plugins) == ["second", "first"]
    assert [loaded.plugin.hook_limit for loaded in made.plugins.values()] == [10.0, 2.0]
    second, first = made.chain("default").steps["judge"]
    assert (second.plugin, second.mode, second.timeout) == ("second", "monitor", 10.0)
    assert (first.plugin, first.mode, first.timeout, first.skip) == ("first", "enforce", 2.0, frozenset(["authenticated"]))
    assert first.ignores_errors(ClientClass.TRUSTED)
    assert not first.ignores_errors(ClientClass.STRANGER)
    assert await verdict(made) == quarantine("first-a")


async def test_each_listener_may_have_its_own_chain(tmp_path: Path) -> None:
    text = (
        f'plugins = ["one"]\n[plugin.one]\nuse = "{HERE}:Named"\n[[listener]]\nname = "mx"\n'
        f'[[listener]]\nname = "submission"\nbind = "127.0.0.1:0"\nplugins = [{{ name = "two", use = "{HERE}:Named" }}, "one"]\n'
        '[[listener]]\nname = "bare"\nbind = "127.0.0.1:1"\nplugins = []\n'
    )
    made = await generation(tmp_path, text)
    names = {listener: [step.plugin for step in made.chain(listener).steps["judge"]] for listener in ("mx", "submission", "bare")}
    assert names == {"mx": ["one"], "submission": ["two", "one"], "bare": []}
    assert made.chain("bare").stages == frozenset()
    assert made.chain("mx").steps["judge"][0] is made.chain("submission").steps["judge"][1]


async def test_rules_of_the_configuration_are_those_of_the_plugin_rules(tmp_path: Path) -> None:
    rule = '[[rule]]\nname = "big words"\nwhen = "message.size > 3"\nthen = "quarantine"\n'
    made = await generation(tmp_path, f'plugins = ["rules"]\n{rule}')
    options: Any = made.plugins["rules"].plugin.options
    assert [one.name for one in options.rule] == ["big words"]
    assert await problems(tmp_path, rule) == [
        'config.toml:1: rule: found rules, and no plugin `rules` in any chain; allowed: `plugins = [ …, "rules" ]`'
    ]
    (found,) = await problems(tmp_path, f'plugins = ["rules"]\n{rule.replace("message", "mesage")}')
    assert found.startswith("config.toml:4: rule[0].when: ")


# Mistakes


async def test_all_mistakes_at_once_with_their_lines(tmp_path: Path, site: Path) -> None:
    (site / "broken.py").write_text("import gateway\n\n1 / 0\n")
    text = """plugins = [
    "spff",
    "tickets",
    "tickets",
    { name = "broken" },
]
plugin_path = ["site"]
[plugin.tickets]
wrod = "x"
timeout = "soon"
[plugin.dkiim]
x = 1
"""
    found = await problems(tmp_path, text)
    known = {one.name for one in importlib.metadata.entry_points(group=GROUP)} | {"broken", "tickets"}
    assert sorted(found) == sorted(
        [
            'config.toml:4: plugins[2]: found the plugin \'tickets\' twice in one chain; allowed: another name: { name = "…", use = "…" }',
            "config.toml:11: plugin.dkiim: found a table for the unknown plugin 'dkiim'; allowed: names of plugins (did you mean 'dkim'?)",
            (
                f"config.toml:2: plugins[0]: found the unknown plugin 'spff'; allowed: {', '.join(sorted(known))}, a file of `plugin_path`, or `package.module:Class` (did you mean 'spf'?)"
            ),
            'config.toml:10: plugin.tickets.timeout: found "soon"; allowed: a duration such as "250ms", "30s", "5m", "2h" or "7d"',
            (
                "config.toml:9: plugin.tickets.wrod: found the unknown key 'wrod'; allowed: word, use, mode, timeout, on_error, skip, process, memory"
                " (did you mean 'word'?)"
            ),
            (
                f"config.toml:5: plugins[3]: found file {site / 'broken.py'}, which cannot be imported: ZeroDivisionError: division by"
                f" zero ({site / 'broken.py'}:3); allowed: a module that imports"
            ),
        ]
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("Unmarked", ["Unmarked.judge looks like a hook; add @hook"]),
        ("UnmarkedOverride", ["UnmarkedOverride.judge looks like a hook; add @hook"]),
        (
            "Misspelt",
            [
                "Misspelt.data takes 'args': a hook takes plain arguments that it names (transaction)",
                "Misspelt.juge is marked @hook, and there is no hook of this name",
                "(did you mean 'judge'?)",
                "Misspelt.rcpt takes 'recipent', and the arguments of this hook are: transaction, recipient",
                "(did you mean 'recipient'?)",
            ],
        ),
        ("Refuses", ["options the plugin 'x' refuses: LookupError: no key file"]),
        ("NOT_A_PLUGIN", ["which is no plugin"]),
        ("Absent", ["cannot be imported: AttributeError"]),
    ],
)
async def test_a_plugin_that_cannot_be_used(tmp_path: Path, target: str, expected: list[str]) -> None:
    found = await problems(tmp_path, f'plugins = ["x"]\n[plugin.x]\nuse = "{HERE}:{target}"\n')
    assert all(line.startswith("config.toml:") for line in found)
    for text in expected:
        assert text in "\n".join(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('plugins = ["no.such.module:Thing"]\n', "cannot be imported: ModuleNotFoundError"),
        ('plugins = ["spf"]\nplugin_path = ["nowhere"]\n', "nowhere, which cannot be read (No such file or directory)"),
        ('plugins = ["spf"]\n[plugin.spf]\nskip = ["strangers"]\n', "did you mean 'stranger'?"),
        ('plugins = ["spf"]\n[plugin.spf]\non_error = { trustd = "ignore" }\n', "did you mean 'trusted'?"),
        ('plugins = ["spf"]\n[plugin.spf]\nmode = "monitr"\n', "did you mean 'monitor'?"),
        (
            'plugins = [{ name = "spf", mode = "monitor" }]\n[plugin.spf]\nmode = "enforce"\n',
            "'mode', which [plugin.spf] sets too",
        ),
        (
            'plugins = [{ name = "x", use = "spf" }]\n[[listener]]\nplugins = [{ name = "x", use = "dkim" }]\n',
            "other settings for 'x' than before",
        ),
        (
            f'plugins = [{{ name = "a", use = "{HERE}:CircleA" }}, {{ name = "b", use = "{HERE}:CircleB" }}]\n',
            "checks wait for each other's findings: a, b",
        ),
    ],
)
async def test_a_mistake(tmp_path: Path, text: str, expected: str) -> None:
    found = await problems(tmp_path, text)
    assert any(expected in line and line.startswith("config.toml:") for line in found), found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n", "with 0 plugin classes (none)"),
        (TICKETS + "\n\nclass Another(Plugin):\n    pass\n", "with 2 plugin classes (Tickets, Another)"),
        ("import sys\nsys.exit(3)\n", "cannot be imported: SystemExit: 3"),
        ("def (:\n", "cannot be imported: SyntaxError"),
    ],
)
async def test_a_file_that_is_no_plugin(tmp_path: Path, site: Path, source: str, expected: str) -> None:
    (site / "tickets.py").write_text(source)
    (found,) = await problems(tmp_path, 'plugins = ["tickets"]\nplugin_path = ["site"]\n')
    assert expected in found


async def test_a_file_with_two_classes_may_name_its_plugin(tmp_path: Path, site: Path) -> None:
    (site / "tickets.py").write_text(TICKETS + "\n\nclass Another(Plugin):\n    pass\n\n\nplugin = Tickets\n")
    made = await generation(tmp_path, 'plugins = ["tickets"]\nplugin_path = ["site"]\n')
    assert type(made.plugins["tickets"].plugin).__name__ == "Tickets"


async def test_a_broken_plugin_that_is_not_used_stops_nothing(tmp_path: Path, site: Path) -> None:
    (site / "broken.py").write_text("1 / 0\n")
    made = await generation(tmp_path, 'plugins = ["tickets"]\nplugin_path = ["site"]\n[plugin.spf]\nmode = "monitor"\n')
    assert list(made.plugins) == ["tickets"]


# Life


def lives(*names: str) -> str:
    entries = ", ".join(f'{{ name = "{name}", use = "{HERE}:Lives" }}' for name in names)
    return f"plugins = [{entries}]\n"


async def test_startup_in_order_and_shutdown_in_reverse(tmp_path: Path) -> None:
    made = await generation(tmp_path, lives("a", "b"))
    await made.startup()
    await made.shutdown()
    assert Lives.log == ["a up", "b up", "b down", "a down"]
    assert made.lost_threads == 0


async def test_a_failed_startup_shuts_down_those_before_it(tmp_path: Path) -> None:
    made = await generation(tmp_path, lives("a", "fails", "b"))
    with pytest.raises(PluginError, match="plugin fails: startup: LookupError: no table"):
        await made.startup()
    assert Lives.log == ["a up", "fails up", "a down"]


async def test_what_a_context_offers(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[server]\nname = "mx.example.org"\n' + ROUTE)
    now = [1_000.0]
    contexts = PluginContexts(
        load(file, environ={}).config,
        directory=tmp_path,
        resolver=FakeResolver({"example.org": {"A": ["192.0.2.1"]}}),
        store=MemoryStore(lambda: now[0]),
        clock=lambda: now[0],
    )
    one, two = contexts("one"), contexts("two")
    assert (one.server_name, one.authserv_id, one.base_directory) == ("mx.example.org", "mx.example.org", str(tmp_path))
    assert one.limits["message_size"] == 50_000_000
    assert one.clock() == 1_000.0
    assert (await one.resolver.query("example.org", "A")).records == ("192.0.2.1",)
    assert await one.store.incr("n", ttl=5) == 1
    assert await one.store.put_if_absent("k", b"v", ttl=5)
    assert await two.store.get("k") is None  # each plugin has its own keys
    await one.store.put("k", b"w", ttl=5)
    assert await one.store.get("k") == b"w"
    await one.store.delete("k")
    assert await one.store.get("k") is None
    assert await one.store.take("b", rate=1e-6, burst=2) == 1
    assert await two.store.take("b", rate=1e-6, burst=2) == 1
    with pytest.raises(ValueError, match="not a name of a metric"):
        one.metrics.count("Bad name")
    one.metrics.count("seen", kind="x")
    one.metrics.observe("took", 0.1)
    ended = asyncio.Event()

    async def background() -> None:
        ended.set()
        raise LookupError("logged")

    one.spawn(background(), name="background")
    await asyncio.wait_for(ended.wait(), 1)
    one.spawn(asyncio.sleep(3600), name="ended by close")
    await contexts.close()


async def test_background_tasks_of_a_plugin_are_bounded(tmp_path: Path) -> None:
    contexts = PluginContexts(load(None, environ={}).config, directory=tmp_path)
    context = contexts("one")
    for _ in range(100):
        context.spawn(asyncio.sleep(3600), name="sleep")
    with pytest.raises(PluginError, match="100 background tasks"):
        context.spawn(asyncio.sleep(3600), name="sleep")
    await contexts.close()


async def test_cpu_heavy_work_runs_in_another_process(tmp_path: Path) -> None:
    contexts = PluginContexts(load(None, environ={}).config, directory=tmp_path)
    context = contexts("one")
    try:
        assert await context.run_in_process(os.getpid) != os.getpid()
        with pytest.raises(ZeroDivisionError):
            await context.run_in_process(divmod, 1, 0)
        with pytest.raises(PluginError, match="ended in the middle"):
            await context.run_in_process(os._exit, 3)
        assert await context.run_in_process(len, b"abc") == 3  # a new pool
    finally:
        await contexts.close()
    assert threading.active_count() < 50


class Pool(ThreadPoolExecutor):
    """Stands for one of processes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.ended = threading.Event()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.ended.set()
        super().shutdown(wait, cancel_futures=cancel_futures)


async def test_the_pool_is_started_once_beside_the_loop_and_ends_with_the_contexts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_by: list[str] = []
    pools: queue.Queue[Pool] = queue.Queue()
    may_start = threading.Event()

    def start() -> Pool:
        started_by.append(threading.current_thread().name)
        pool = Pool(1)
        pools.put(pool)
        may_start.wait(10)
        return pool

    monkeypatch.setattr(plugin_context, "_new_pool", start)
    contexts = PluginContexts(load(None, environ={}).config, directory=tmp_path)
    context = contexts("p")
    asked = asyncio.gather(context.run_in_process(len, b"abc"), context.run_in_process(len, b"ab"))
    await asyncio.sleep(0.01)  # the loop goes on meanwhile
    may_start.set()
    assert tuple(await asked) == (3, 2)
    assert len(started_by) == 1
    assert started_by != [threading.current_thread().name]
    await contexts.close()
    assert pools.get(timeout=10).ended.is_set()

    may_start.clear()
    contexts = PluginContexts(load(None, environ={}).config, directory=tmp_path)
    waiting = asyncio.get_running_loop().create_task(contexts("p").run_in_process(len, b"abc"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await contexts.close()
    may_start.set()
    pool = await asyncio.to_thread(pools.get, timeout=10)
    assert await asyncio.to_thread(pool.ended.wait, 10)


async def test_a_plugin_that_is_only_loaded_reaches_nothing(tmp_path: Path) -> None:
    made = await generation(tmp_path, lives("a"))
    context = made.plugins["a"].plugin.context
    with pytest.raises(Exception, match="not run here"):
        await context.resolver.query("example.org", "A")
    for call in (
        context.store.get("k"),
        context.store.put("k", b"", ttl=1),
        context.store.put_if_absent("k", b"", ttl=1),
        context.store.incr("k", ttl=1),
        context.store.take("k", rate=1, burst=1),
        context.store.delete("k"),
    ):
        with pytest.raises(Exception, match="not run here"):
            await call


async def test_a_mistake_that_only_the_plugin_can_see_has_its_line_too(tmp_path: Path) -> None:
    text = 'plugins = ["dkim_sign"]\n\n[[plugin.dkim_sign.key]]\ndomain = "example.org"\nselector = "s"\nfile = "nothing"\n'
    [found] = await problems(tmp_path, text)
    assert found.startswith(
        "config.toml:6: plugin.dkim_sign.key[0].file: found 'nothing': a file that cannot be read: No such file"
    )

"""Rules in a configuration: groups in their places, skips that lead somewhere, mistakes with their keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway import ConfigError
from gateway.config.models import Config
from gateway.generation import Generation
from gateway.server.watch import Watch


async def problems_of(settings: dict[str, Any]) -> list[str]:
    config = Config.model_validate(settings)
    try:
        await Generation.load(config)
    except ConfigError as error:
        return [f"{problem.key}: {problem.found}; {problem.allowed} {problem.hint}".rstrip() for problem in error.problems]
    return []


GROUP = {"name": "exceptions", "use": "rules", "rule": [{"name": "p", "when": "true", "then": {"skip": ["recipients"]}}]}


async def test_groups_in_a_configuration() -> None:
    rule = {"name": "x", "when": "true", "then": "accept"}
    assert await problems_of({"plugins": [GROUP, "recipients", "rules"], "rule": [rule]}) == []


async def test_a_skip_must_name_a_plugin_behind() -> None:
    (problem,) = await problems_of(
        {"plugins": ["recipients", GROUP, "rules"], "rule": [{"name": "x", "when": "true", "then": "accept"}]}
    )
    assert problem == "plugins[1]: skip of 'recipients' by rule 'p', which is not behind 'exceptions' in a chain; rules"
    (problem,) = await problems_of(
        {"plugins": ["rules", "recipients"], "rule": [{"name": "x", "when": "true", "then": {"skip": ["recipient"]}}]}
    )
    assert problem.endswith("recipients recipients"), "the nearest right name"


async def test_named_lists_are_for_all_groups() -> None:
    asks = {"name": "p", "when": 'in_list("vip", reverse_path.mailbox)', "then": "accept"}
    group = {"name": "exceptions", "use": "rules", "rule": [asks]}
    vip = {"kind": "addresses", "entries": ["a@b.test"]}
    whole = {"plugins": [group, "rules"], "rule": [asks]}
    assert await problems_of({**whole, "list": {"vip": vip}}) == []
    found = await problems_of({**whole, "list": {"vop": vip}})
    assert [line.partition(":")[0] for line in found] == ["plugins[0].rule[0].when", "rule[0].when"]
    assert all("unknown list 'vip' (did you mean 'vop'?)" in line for line in found)
    found = await problems_of({**whole, "list": {"vip": {"kind": "adresses", "entries": ["x"]}}})
    assert [line.partition(":")[0] for line in found] == ["list.vip.kind"], "once, though two groups have it"
    found = await problems_of({**whole, "list": {"vip": {"kind": "addresses", "file": "/none"}}})
    assert [line.partition(":")[0] for line in found] == ["list.vip.file"]
    own = {"use": "rules", "rule": [asks], "list": {"vip": {"kind": "addresses"}}}
    found = await problems_of({"plugins": ["own"], "plugin": {"own": own}})
    assert [line.partition(":")[0] for line in found] == ["plugin.own.list.vip"]


async def test_a_wrong_rule_of_the_configuration() -> None:
    found = await problems_of(
        {"plugins": ["rules"], "rule": [{"name": "x", "when": "tru", "then": {"reject": "no", "code": 450}}]}
    )
    assert [line.partition(":")[0] for line in found] == ["rule[0].when", "rule[0].then[0].reject"]
    assert "unknown fact 'tru'" in found[0]
    assert "code 450 is not 5xx" in found[1]


async def test_a_wrong_rule_of_another_group_is_told_apart() -> None:
    group = {"name": "exceptions", "use": "rules", "rule": [{"name": "p", "when": "fals", "then": "accept"}]}
    rule = {"name": "x", "when": "tru", "then": "accept"}
    found = await problems_of({"plugins": [group, "rules"], "rule": [rule]})
    assert [line.partition(":")[0] for line in found] == ["plugins[0].rule[0].when", "rule[0].when"]
    named = {"rule": [{"name": "p", "when": "fals", "then": "accept"}], "use": "rules"}
    found = await problems_of({"plugins": ["exceptions"], "plugin": {"exceptions": named}})
    assert [line.partition(":")[0] for line in found] == ["plugin.exceptions.rule[0].when"]


async def test_a_file_that_comes_to_a_directory_of_rules_is_noticed(tmp_path: Path) -> None:
    """And so is one that changes: the worker reloads then."""
    folder = tmp_path / "rules.d"
    folder.mkdir()
    rule = '[[rule]]\nname = "{}"\nwhen = "true"\nthen = "accept"\n'
    (folder / "a.toml").write_text(rule.format("a"))
    config = Config.model_validate({"plugins": ["rules"], "rule_files": ["rules.d"]})
    generation = await Generation.load(config, directory=tmp_path)
    watch = Watch(1.0)
    watch.settle(generation.files)

    def noticed() -> list[str]:
        watch.changed(generation.files)  # a change counts once it has rested
        return [Path(file).name for file in watch.changed(generation.files)]

    assert noticed() == []
    (folder / "b.toml").write_text(rule.format("b"))
    assert noticed() == ["rules.d"]
    (folder / "a.toml").write_text(rule.format("another"))
    assert noticed() == ["a.toml"]
    again = await Generation.load(config, directory=tmp_path)
    assert again.id != generation.id
    assert len(again.files) == 3

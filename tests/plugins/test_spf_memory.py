"""SPF results that are used again: only while DNS says the same, and only where nothing else went into them."""

from __future__ import annotations

from typing import Any

from gateway import DnsAnswer, DnsError
from gateway.plugins.spf import Options, Spf
from gateway.plugins.spf.memory import MAX_OCTETS, Memory
from gateway.testing import FakeContext, a_session, a_transaction


class Zones:
    """A resolver whose records may change, and that keeps a list of what was asked."""

    def __init__(self, **texts: str) -> None:
        self.texts = {name.replace("_", "."): text for name, text in texts.items()}
        self.asked: list[str] = []
        self.is_dead = False

    async def query(self, name: str, kind: str) -> DnsAnswer:
        self.asked.append(f"{name} {kind}")
        if self.is_dead:
            raise DnsError(name, kind, "dead")
        records: tuple[Any, ...] = ((self.texts[name].encode(),),) if kind == "TXT" and name in self.texts else ()
        return DnsAnswer(name=name, kind=kind, records=records)


async def results(plugin: Spf, sender: str = "a@d.example", client: str = "192.0.2.1") -> list[str]:
    transaction = a_transaction(reverse_path=sender, session=a_session(helo="h.example", client_address=client))
    found = await plugin.check(transaction)
    return [finding.result for finding in found or ()]


def plugin_on(resolver: Zones, **options: Any) -> Spf:
    return Spf(Options(**options), name="spf", context=FakeContext(resolver=resolver))


async def test_the_second_time_the_same_is_asked_and_the_same_comes_out() -> None:
    zones = Zones(d_example="v=spf1 include:i.example -all", i_example="v=spf1 ip4:192.0.2.1", h_example="v=spf1 -all")
    plugin = plugin_on(zones)
    first = await results(plugin)
    asked, zones.asked = zones.asked, []
    assert await results(plugin) == first == ["pass", "fail"]
    assert sorted(zones.asked) == sorted(asked) == ["d.example TXT", "h.example TXT", "i.example TXT"]


async def test_another_record_counts_at_once() -> None:
    zones = Zones(d_example="v=spf1 include:i.example -all", i_example="v=spf1 ip4:192.0.2.1", h_example="v=spf1 -all")
    plugin = plugin_on(zones, helo="null")
    assert await results(plugin) == ["pass"]
    zones.texts["i.example"] = "v=spf1 ip4:192.0.2.2"
    assert await results(plugin) == ["fail"]
    zones.texts["i.example"] = "v=spf1 ip4:192.0.2.1"
    assert await results(plugin) == ["pass"]
    del zones.texts["d.example"]
    assert await results(plugin) == ["none"]


async def test_a_failure_of_dns_is_none_of_before() -> None:
    zones = Zones(d_example="v=spf1 ip4:192.0.2.1 -all")
    plugin = plugin_on(zones, helo="null")
    assert await results(plugin) == ["pass"]
    zones.is_dead = True
    assert await results(plugin) == ["temperror"]
    zones.is_dead = False
    assert await results(plugin) == ["pass"]


async def test_clients_and_domains_have_results_of_their_own() -> None:
    zones = Zones(d_example="v=spf1 ip4:192.0.2.1 -all", e_example="v=spf1 ip4:192.0.2.2 -all")
    plugin = plugin_on(zones, helo="null")
    for _ in range(2):
        assert await results(plugin) == ["pass"]
        assert await results(plugin, client="192.0.2.2") == ["fail"]
        assert await results(plugin, "a@e.example") == ["fail"]
        assert await results(plugin, "a@e.example", client="192.0.2.2") == ["pass"]


async def test_what_macros_put_in_is_asked_each_time() -> None:
    zones = Zones(d_example="v=spf1 exists:%{l}.e.example -all")
    plugin = plugin_on(zones, helo="null")
    assert await results(plugin, "a@d.example") == ["fail"]
    zones.asked.clear()
    await results(plugin, "b@d.example")
    assert "b.e.example A" in zones.asked


async def test_a_long_local_part_is_refused_though_the_domain_is_known() -> None:
    plugin = plugin_on(Zones(d_example="v=spf1 +all"), helo="null")
    assert await results(plugin) == ["pass"]
    assert await results(plugin, f"{'a' * 257}@d.example") == ["permerror"]


async def test_what_is_kept_is_bounded() -> None:
    memory: Memory[str] = Memory(2)
    zones = Zones(d_example="x")
    answers = {("d.example", "TXT"): [(b"x",)]}
    for address in ("1", "2", "1", "3"):
        memory.keep(address, "d.example", answers, f"of {address}")
        await memory.recall("1", "d.example", zones)
    found = [await memory.recall(address, "d.example", zones) for address in ("1", "2", "3")]
    assert found == ["of 1", None, "of 3"]
    memory.keep("1", "d.example", {("d.example", "TXT"): [(b"x" * (MAX_OCTETS + 1),)]}, "large")
    assert await memory.recall("1", "d.example", zones) is None
    memory.keep("3", "d.example", {(f"{number}.example", "A"): [] for number in range(13)}, "many")
    assert await memory.recall("3", "d.example", zones) is None

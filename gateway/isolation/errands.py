"""What a plugin's process cannot have for itself: DNS, the store, log and metrics of its worker. Asked for in plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import DnsError, PluginError, StorageError
from gateway.isolation.codec import GarbageError, UnknownValueError, pack

if TYPE_CHECKING:
    from gateway.context import Context


class Errands:
    """Done for one plugin, with its own context."""

    def __init__(self, plugin: str, context: Context) -> None:
        self._plugin = plugin
        self._context = context

    def note(self, message: dict[str, Any]) -> None:
        """A line of the log, or a metric. GarbageError, and what wrong values raise: KeyError, TypeError, ValueError."""
        if "log" in message:
            facts = {str(name)[:100]: one for name, one in message["facts"].items() if name != "event"}
            line = getattr(
                self._context.log, message["log"] if message["log"] in {"debug", "info", "warning", "error"} else "info"
            )
            line(str(message["event"])[:500], **facts)
        elif "metric" in message:
            labels = {str(name): str(one) for name, one in message["labels"].items()}
            told = self._context.metrics.count if message["metric"] == "count" else self._context.metrics.observe
            try:
                told(str(message["name"]), float(message["amount"]), **labels)
            except ValueError as error:  # a name that cannot be, or other labels than before
                self._context.log.warning("plugin.background_error", task="metrics", error=str(error)[:500])
        else:
            raise GarbageError("a frame of no kind")

    async def answer(self, what: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """The value, or why there is none."""
        try:
            return {"value": pack(await self._fetch(what, arguments))}
        except DnsError as error:
            return {"fault": {"kind": "dns", "name": error.name, "type": error.kind, "what": error.what, "cause": error.cause}}
        except StorageError as error:
            return {"fault": {"kind": "storage", "what": str(error), "full": error.full}}
        except (PluginError, UnknownValueError, TypeError, ValueError) as error:
            return self.refusal(str(error)[:500])

    def refusal(self, what: str) -> dict[str, Any]:
        """There is no answer."""
        return {"fault": {"kind": "plugin", "plugin": self._plugin, "what": what}}

    async def _fetch(self, what: str, arguments: tuple[Any, ...]) -> Any:
        resolver, store = self._context.resolver, self._context.store
        match what, arguments:
            case "resolver.query", (str() as name, str() as kind):
                return await resolver.query(name, kind)
            case "store.get", (str() as key,):
                return await store.get(key)
            case "store.put", (str() as key, bytes() as value, int() | float() as ttl):
                return await store.put(key, value, ttl=ttl)
            case "store.put_if_absent", (str() as key, bytes() as value, int() | float() as ttl):
                return await store.put_if_absent(key, value, ttl=ttl)
            case "store.incr", (str() as key, int() as amount, int() | float() as ttl):
                return await store.incr(key, amount, ttl=ttl)
            case "store.take", (str() as key, int() | float() as amount, int() | float() as rate, int() | float() as burst):
                return await store.take(key, amount, rate=rate, burst=burst)
            case "store.delete", (str() as key,):
                return await store.delete(key)
            case _:
                raise PluginError(self._plugin, f"asked for {what[:50]!r}, which there is not")

"""A plugin: a class with options and hooks. `Plugin[Options]`, or `Plugin` alone where there are no options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, cast, get_args, get_origin, overload

import pluggy
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from gateway.context import Context
from gateway.trial import Trial

PROJECT = "mailgateway"
_mark = pluggy.HookimplMarker(PROJECT)

H = TypeVar("H", bound=Callable[..., Any])


@overload
def hook(function: H, /) -> H: ...
@overload
def hook(*, cheap: bool = False) -> Callable[[H], H]: ...
def hook(function: H | None = None, /, *, cheap: bool = False) -> H | Callable[[H], H]:
    """Mark a method as the implementation of the hook of its name.

    A `def` hook runs in a thread; with `cheap=True` it runs on the loop itself and must not block.

    Examples:
        >>> class Names(Plugin):
        ...     @hook(cheap=True)
        ...     def helo(self, session: Session) -> Reject | None:
        ...         return reject("That is my name", code=550) if session.helo == "mx.example.org" else None
        >>> (await run_plugin(Names(), session=a_session(helo="mx.example.org"))).verdict.text
        'That is my name'
    """

    def mark(target: H) -> H:
        cast("Any", target).mailgateway_cheap = cheap
        return _mark(target)

    return mark if function is None else mark(function)


class PluginOptions(BaseModel):
    """Base of a plugin's options: unknown keys are errors, values are frozen. A string below an option is what it means.

    Examples:
        >>> class Options(PluginOptions):
        ...     limit: Size = 1_000_000
        >>> Options(limit="25MB").limit
        25000000
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


OptionsT = TypeVar("OptionsT", bound=PluginOptions, default=PluginOptions)


class Plugin(Generic[OptionsT]):
    """Base of every plugin. One object for each use in the configuration.

    Examples:
        >>> class Options(PluginOptions):
        ...     words: tuple[str, ...] = ("invoice",)
        >>> class Subjects(Plugin[Options]):
        ...     @hook
        ...     async def judge(self, message: Message) -> Verdict | None:
        ...         found = [word for word in self.options.words if word in message.subject.lower()]
        ...         return quarantine("subject-word", evidence=found[0]) if found else None
        >>> (await run_plugin(Subjects(), message=a_message(subject="Invoice 17"))).verdict
        Quarantine(reason='subject-word', evidence='invoice', recipients=None, box='default')
    """

    options_type: ClassVar[type[PluginOptions]] = PluginOptions
    gives: ClassVar[tuple[str, ...]] = ()
    """Findings its `check` gives: `("auth.spf",)`."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Findings its `check` waits for, where something in the chain gives them."""
    verifies: ClassVar[tuple[str, ...]] = ()
    """Header fields, in lower case, whose signatures its `check` verifies: `("dkim-signature",)`. Body hashes that they need are made
    while a large content arrives, and `gateway.mailauth` has them at once."""

    options: OptionsT
    context: Context
    name: str
    hook_limit: float = 10.0
    """Seconds that each hook has: `timeout` of this use. What ends its own work earlier can still say what it found."""

    def __init__(self, options: OptionsT | None = None, *, name: str = "", context: Context | None = None) -> None:
        self.options = cast("OptionsT", self.options_type()) if options is None else options
        self.name = name or type(self).__name__.lower()
        if context is not None:
            self.context = context

    @property
    def files_read(self) -> Sequence[str | Path]:
        """Files that its constructor has read, beside the configuration: the gateway reloads when one of them changes."""
        return ()

    @property
    def passes_over(self) -> Mapping[str, str]:
        """Plugins that its `judge` may answer `skip` for, each with who says so; checked when the chain is made."""
        return {}

    @property
    def redirects_to(self) -> Mapping[str, str]:
        """Routes that it may answer `redirect` for, each with who says so; checked when the chain is made."""
        return {}

    @property
    def unused_hooks(self) -> frozenset[str]:
        """Hooks that have nothing to do with these options: they are left out of the chain and cost nothing."""
        return frozenset()

    async def trials(self) -> Sequence[Trial]:
        """Run the tests that stand beside its options, and say what came of each: for `mailgateway config check --test`."""
        return ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is not None and issubclass(get_origin(base), Plugin):
                arguments = get_args(base)
                if arguments and isinstance(arguments[0], type) and issubclass(arguments[0], PluginOptions):
                    cls.options_type = arguments[0]

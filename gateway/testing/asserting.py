"""Assertions whose failure shows the trace: which plugin said what, with evidence and times."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.verdict import Verdict

if TYPE_CHECKING:
    from gateway.testing.run import Result
    from gateway.trace import Record, StepRecord

LATEST: list[Result] = []
"""What the last run in this test came to; for pytest's explanation of a comparison that failed."""


def trace_text(steps: Sequence[StepRecord]) -> str:
    """The trace as `mailgateway check` prints it.

    Examples:
        >>> print(trace_text([]), end="")
        no hook was called
    """
    from gateway.cli.tree import render_steps

    return _printed(render_steps(list(steps))) if steps else "no hook was called\n"


def record_text(record: Record) -> str:
    """A whole decision record, the same way."""
    from gateway.cli.tree import render

    return _printed(render(record))


def _printed(tree: object) -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=160, markup=False, emoji=False, highlight=False, color_system=None).print(tree)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def assert_verdict(result: Result, wanted: Verdict | None, *, mailbox: str | None = None) -> None:
    """The verdict of a run is this one (None: nobody decided), or that of one recipient. AssertionError shows both and the trace.

    Examples:
        >>> class Careful(Plugin):
        ...     @hook(cheap=True)
        ...     def judge(self, message: Message) -> Verdict | None:
        ...         return reject("No executables") if message.attachments else None
        >>> assert_verdict(await run_plugin(Careful(), message=a_message(attach="a.exe")), reject("No executables"))
        >>> assert_verdict(await run_plugin(Careful()), reject("No executables"))
        Traceback (most recent call last):
        AssertionError: nobody decided, expected Reject(...)
        judge
        └── careful  none  ... ms
        <BLANKLINE>
    """
    __tracebackhide__ = True
    if mailbox is None:
        found = result.verdict
    elif mailbox in result.decisions:
        decision = result.decisions[mailbox]
        found = decision.verdict if decision is not None else None
    else:
        known = ", ".join(result.decisions) or "none"
        raise AssertionError(f"no recipient {mailbox}; there are: {known}\n{trace_text(result.trace)}")
    if found != wanted:
        whose = f" for {mailbox}" if mailbox is not None else ""
        said = "nobody decided" if found is None else repr(found)
        raise AssertionError(
            f"{said}{whose}, expected {'no verdict' if wanted is None else repr(wanted)}\n{trace_text(result.trace)}"
        )


def assert_finding(result: Result, kind: type[Any], **fields: Any) -> Any:
    """There is a finding of this type with these fields, and this is it. AssertionError shows all that were found, and the trace.

    Examples:
        >>> class Country(Plugin):
        ...     @hook(cheap=True)
        ...     def check(self) -> Label:
        ...         return Label(name="from-nl")
        >>> assert_finding(await run_plugin(Country()), Label, name="from-nl").name
        'from-nl'
    """
    __tracebackhide__ = True
    for finding in result.findings:
        if isinstance(finding, kind) and all(getattr(finding, name, None) == value for name, value in fields.items()):
            return finding
    wanted = f"{kind.__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"
    found = "".join(f"  {one!r}\n" for one in result.findings) or "  none\n"
    raise AssertionError(f"no finding {wanted}; there are:\n{found}{trace_text(result.trace)}")


def explain(left: object, right: object) -> list[str] | None:
    """Lines below a comparison of something of the last run, for `pytest_assertrepr_compare`; None: it has nothing to do with it."""
    if not LATEST:
        return None
    result = LATEST[-1]
    parts = (result.verdict, result.decision, result.findings, result.edits, result.signatures, result.would, result.recipients)
    is_ours = any(one is part for one in (left, right) for part in parts if part not in (None, ()))
    is_nothing = any(one is None or one == () for one in (left, right)) and any(
        isinstance(one, Verdict | tuple) or one is None for one in (left, right)
    )
    return trace_text(result.trace).splitlines() if is_ours or is_nothing else None

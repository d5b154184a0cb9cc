"""What a stage says to who asked: values of `Chain.mail` and `Chain.rcpt`, and the error of a stage that cannot answer."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import GatewayError
from gateway.verdict import AddRecipient, Decision, UseForwardPath, UseReversePath


class StageDeferredError(GatewayError):
    """A plugin failed at `rewrite` or `sign` and its `on_error` is `defer`: nothing may be sent."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(f"{decision.plugin} at {decision.hook}: {decision.verdict.evidence}")
        self.decision = decision


@dataclass(frozen=True, slots=True, kw_only=True)
class MailAnswer:
    """What the plugins say at MAIL."""

    decision: Decision | None = None
    """Reject, Defer or Discard."""
    reverse_path: UseReversePath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RcptAnswer:
    """What the plugins say at RCPT."""

    decision: Decision | None = None
    """Accept, Reject, Defer, Discard or Redirect, for this recipient."""
    forward_path: UseForwardPath | None = None
    added: tuple[AddRecipient, ...] = ()


NO_MAIL_ANSWER = MailAnswer()
NO_RCPT_ANSWER = RcptAnswer()

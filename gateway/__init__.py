"""The public API of mailgateway: what a plugin may use. Nothing here opens a socket or a file."""

from gateway.context import Context, DnsAnswer, Resolver, Store
from gateway.edits import (
    AddHeader,
    Edit,
    RemoveHeader,
    ReplaceHeader,
    TagSubject,
    add_header,
    remove_header,
    replace_header,
    tag_subject,
)
from gateway.errors import ConfigError, ConfigProblem, DnsError, PluginError
from gateway.fields import HeaderField
from gateway.findings import AuthResult, Fact, Finding, Findings, Label, Score
from gateway.message import Message
from gateway.mime import Part
from gateway.plugin import Plugin, PluginOptions, hook
from gateway.session import ClientClass, Session, Tls
from gateway.smtp.paths import Parameter, Path
from gateway.smtp.replies import Reply
from gateway.transaction import Recipient, Transaction
from gateway.units import Duration, Size
from gateway.verdict import (
    Accept,
    AddRecipient,
    Decision,
    Defer,
    Discard,
    Quarantine,
    Redirect,
    Reject,
    UseForwardPath,
    UseReversePath,
    Verdict,
    accept,
    add_recipient,
    defer,
    discard,
    quarantine,
    redirect,
    reject,
    use_forward_path,
    use_reverse_path,
)

__all__ = [
    "Accept",
    "AddHeader",
    "AddRecipient",
    "AuthResult",
    "ClientClass",
    "ConfigError",
    "ConfigProblem",
    "Context",
    "Decision",
    "Defer",
    "Discard",
    "DnsAnswer",
    "DnsError",
    "Duration",
    "Edit",
    "Fact",
    "Finding",
    "Findings",
    "HeaderField",
    "Label",
    "Message",
    "Parameter",
    "Part",
    "Path",
    "Plugin",
    "PluginError",
    "PluginOptions",
    "Quarantine",
    "Recipient",
    "Redirect",
    "Reject",
    "RemoveHeader",
    "ReplaceHeader",
    "Reply",
    "Resolver",
    "Score",
    "Session",
    "Size",
    "Store",
    "TagSubject",
    "Tls",
    "Transaction",
    "UseForwardPath",
    "UseReversePath",
    "Verdict",
    "accept",
    "add_header",
    "add_recipient",
    "defer",
    "discard",
    "hook",
    "quarantine",
    "redirect",
    "reject",
    "remove_header",
    "replace_header",
    "tag_subject",
    "use_forward_path",
    "use_reverse_path",
]

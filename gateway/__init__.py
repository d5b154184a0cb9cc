"""The public API of mailgateway: what a plugin may use. Nothing here opens a socket or a file."""

import gateway.core  # first of all: what follows may be compiled
from gateway import light

if not light.handed_over:
    import gateway.quarantine  # noqa: F401 - first: the verdict below bears its name, and importing the package later would hide it
    from gateway.api_version import API_VERSION
    from gateway.authors import HeaderAddress
    from gateway.client_network import client_network
    from gateway.context import Context, DnsAnswer, Log, Metrics, Resolver, Store
    from gateway.edits import (
        AddHeader,
        Edit,
        InsertHeader,
        RemoveHeader,
        ReplaceBody,
        ReplaceHeader,
        ReplacePart,
        TagSubject,
        add_header,
        insert_header,
        remove_header,
        remove_part,
        replace_body,
        replace_header,
        replace_part,
        tag_subject,
    )
    from gateway.errors import ConfigError, ConfigProblem, DnsError, LookupFailedError, OptionError, OptionMistake, PluginError
    from gateway.fields import HeaderField
    from gateway.files import File, Opened, Unopened
    from gateway.findings import AuthResult, Fact, Finding, Findings, Label, Score
    from gateway.footer import Footer
    from gateway.idn import a_labels
    from gateway.links import Link
    from gateway.lookalikes import is_mixed_script, looks_like, skeleton, u_labels
    from gateway.lookup import Lookup
    from gateway.mailbox_key import MailboxKey, mailbox_key
    from gateway.message import Message, NestedMessage
    from gateway.mime import Part
    from gateway.plugin import Plugin, PluginOptions, hook
    from gateway.redirectors import unwrap
    from gateway.sender_key import sender_key
    from gateway.session import ClientClass, Forwarded, Proxy, Session, Tls
    from gateway.site_files import WatchedFile, library, read_secret
    from gateway.smtp.paths import Parameter, Path
    from gateway.smtp.replies import Reply
    from gateway.toml_file import TomlFile
    from gateway.transaction import Outcome, Recipient, Transaction
    from gateway.trial import Trial
    from gateway.units import Duration, Size
    from gateway.urls import find_urls, host_of
    from gateway.verdict import (
        Accept,
        AddRecipient,
        Decision,
        Defer,
        Discard,
        Note,
        Quarantine,
        Redirect,
        Reject,
        Skip,
        UseForwardPath,
        UseReversePath,
        Verdict,
        Would,
        accept,
        add_recipient,
        defer,
        discard,
        quarantine,
        redirect,
        reject,
        skip,
        use_forward_path,
        use_reverse_path,
        would,
    )

__all__ = [
    "API_VERSION",
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
    "File",
    "Finding",
    "Findings",
    "Footer",
    "Forwarded",
    "HeaderAddress",
    "HeaderField",
    "InsertHeader",
    "Label",
    "Link",
    "Log",
    "Lookup",
    "LookupFailedError",
    "MailboxKey",
    "Message",
    "Metrics",
    "NestedMessage",
    "Note",
    "Opened",
    "OptionError",
    "OptionMistake",
    "Outcome",
    "Parameter",
    "Part",
    "Path",
    "Plugin",
    "PluginError",
    "PluginOptions",
    "Proxy",
    "Quarantine",
    "Recipient",
    "Redirect",
    "Reject",
    "RemoveHeader",
    "ReplaceBody",
    "ReplaceHeader",
    "ReplacePart",
    "Reply",
    "Resolver",
    "Score",
    "Session",
    "Size",
    "Skip",
    "Store",
    "TagSubject",
    "Tls",
    "TomlFile",
    "Transaction",
    "Trial",
    "Unopened",
    "UseForwardPath",
    "UseReversePath",
    "Verdict",
    "WatchedFile",
    "Would",
    "a_labels",
    "accept",
    "add_header",
    "add_recipient",
    "client_network",
    "defer",
    "discard",
    "find_urls",
    "hook",
    "host_of",
    "insert_header",
    "is_mixed_script",
    "library",
    "looks_like",
    "mailbox_key",
    "quarantine",
    "read_secret",
    "redirect",
    "reject",
    "remove_header",
    "remove_part",
    "replace_body",
    "replace_header",
    "replace_part",
    "sender_key",
    "skeleton",
    "skip",
    "tag_subject",
    "u_labels",
    "unwrap",
    "use_forward_path",
    "use_reverse_path",
    "would",
]

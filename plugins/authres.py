"""One Authentication-Results field on top (RFC 8601); those of strangers that claim our name are removed."""

from __future__ import annotations

from collections.abc import Sequence

from gateway import AuthResult, Edit, Message, Plugin, PluginOptions, Transaction, add_header, hook, remove_header
from gateway.mailauth.results import Names, bears_name, render_results

NAME = "Authentication-Results"
MAX_FIELDS = 100
"""Fields that are looked at; of a message with more all go."""


class Options(PluginOptions):
    """`[plugin.authres]`."""

    add: bool = True
    """Add the field; `false` only removes forged ones."""
    other_ids: tuple[str, ...] = ()
    """Further names that only we may write: former ones, those of other gateways of the site. `*.example.org` is every
    name below example.org."""


class AuthRes(Plugin[Options]):
    """The plugin."""

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> Sequence[Edit]:
        """Cut the forged fields, put ours on top of everything else."""
        edits: list[Edit] = self._removals(message)
        if self.options.add:
            results = transaction.findings.of(AuthResult)
            utf8 = transaction.parameter("SMTPUTF8") is not None  # RFC 8616 5
            edits.append(add_header(NAME, render_results(self.context.authserv_id, results, utf8=utf8)))
        return edits

    def _removals(self, message: Message) -> list[Edit]:
        fields = message.fields_named(NAME)
        names = Names((self.context.authserv_id, *self.options.other_ids))
        if len(fields) > MAX_FIELDS:
            forged = list(range(len(fields)))
        else:
            forged = [place for place, field in enumerate(fields) if bears_name(field.raw, names)]
        if forged:
            self.context.metrics.count("forged_fields_removed", len(forged))
        if forged and len(forged) == len(fields):
            return [remove_header(NAME)]
        return [remove_header(NAME, place) for place in forged]

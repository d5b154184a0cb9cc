"""`disclaimer`: a footer below the text and in the HTML of a message, never twice."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gateway import Edit, Footer, Label, PluginOptions
from gateway.plugins.rules.facts import Subject

NO_DISCLAIMER = "no-disclaimer"


class Disclaimer(PluginOptions):
    """`disclaimer`: the text that stands below."""

    disclaimer: str = Field(min_length=1, max_length=20_000)
    """Lines of plain text."""
    html: str = Field(default="", max_length=20_000)
    """The same for the HTML part; default: made of the text."""
    signed: Literal["keep", "break"] = "keep"
    """Mail with a DKIM or ARC signature of others stays as it is, or gets the text and its signature does not verify any more."""

    @model_validator(mode="after")
    def _can_be(self) -> Disclaimer:
        self.footer()
        return self

    def footer(self) -> Footer:
        """As a value. ValueError."""
        return Footer(text=self.disclaimer, html=self.html)

    def change(self, subject: Subject) -> tuple[list[Edit], list[Label]]:
        """What adds it, or why it is not there."""
        try:
            edits = self.footer().edits(subject.message, breaks_signatures=self.signed == "break")
        except ValueError as error:
            return [], [Label(name=NO_DISCLAIMER, evidence=str(error))]
        return list(edits), []

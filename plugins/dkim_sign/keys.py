"""The keys of the configuration: read once, found again by the domain of an author."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway import OptionError, OptionMistake
from gateway.mailauth import USABLE_KEY_FILE, PrivateKey, PrivateKeyError, SigningKey, read_key_file
from gateway.plugins.dkim_sign.options import KeyOptions, Options


@dataclass(frozen=True, slots=True)
class Signer:
    """One key with its options."""

    options: KeyOptions
    signing: SigningKey


def read_signers(options: Options, directory: Path) -> tuple[Signer, ...]:
    """All keys, in order. OptionError with every one that cannot be used."""
    mistakes: list[OptionMistake] = []
    signers: list[Signer] = []
    known: dict[str, PrivateKey] = {}
    names: set[tuple[str, str]] = set()
    if not options.key:
        mistakes.append(OptionMistake(key=("key",), found="no key", allowed="at least one [[plugin.dkim_sign.key]]"))
    for place, one in enumerate(options.key):
        if (one.domain, one.selector) in names:
            found = f"{one.selector}._domainkey.{one.domain}, twice"
            mistakes.append(
                OptionMistake(key=("key", place), found=found, allowed="a selector of its own for each key of a domain")
            )
            continue
        names.add((one.domain, one.selector))
        try:
            key = known.get(one.file) or read_key_file(directory / one.file, is_strict=options.key_permissions == "strict")
        except PrivateKeyError as error:
            mistakes.append(OptionMistake(key=("key", place, "file"), found=f"{one.file!r}: {error}", allowed=USABLE_KEY_FILE))
            continue
        known[one.file] = key
        signers.append(Signer(one, SigningKey(domain=one.domain, selector=one.selector, key=key, file=one.file)))
    if mistakes:
        raise OptionError(*mistakes)
    return tuple(signers)


class Signers:
    """The keys by what they sign for."""

    def __init__(self, signers: Iterable[Signer]) -> None:
        self.all = tuple(signers)
        self._by_pattern: dict[tuple[str, str], list[int]] = {}
        for place, signer in enumerate(self.all):
            for pattern in signer.options.patterns:
                self._by_pattern.setdefault((signer.options.by, pattern), []).append(place)

    def of(self, by: str, domains: Iterable[str]) -> set[int]:
        """Numbers of the keys for one of these domains (A-labels in lower case)."""
        found = set(self._by_pattern.get((by, "*"), ()))
        for domain in domains:
            found.update(self._by_pattern.get((by, domain), ()))
            above = domain
            while "." in above:
                above = above.partition(".")[2]
                found.update(self._by_pattern.get((by, f"*.{above}"), ()))
        return found

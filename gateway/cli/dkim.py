"""`mailgateway dkim`: make a key, print its record, check what is published."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, exit_with, load_or_exit
from gateway.cli.terminal import safe

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.context import Resolver
    from gateway.mailauth import PrivateKey, SigningKey
    from gateway.mailauth.published import Remark

app = typer.Typer(no_args_is_help=True, help="Keys for signing: make them, publish them, check them.")

Domain = Annotated[str, typer.Option(help="The signing domain; default: all of the configuration.")]
Selector = Annotated[str, typer.Option(help="The selector; default: all of the configuration.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="FILE", help="A private key, with --domain and --selector; default: those of the configuration."
    ),
]


class KeyType(StrEnum):
    """What `keygen` makes."""

    RSA = "rsa"
    ED25519 = "ed25519"


@app.callback()
def dkim() -> None:
    """Keys for signing: make them, publish them, check them."""


@app.command()
def keygen(
    *,
    domain: Annotated[str, typer.Option(help="The signing domain.")],
    selector: Annotated[str, typer.Option(help="The selector, a new one for each key.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the private key goes, mode 0600; never over a file that is there.")
    ],
    type_: Annotated[KeyType, typer.Option("--type", help="The kind of key.")] = KeyType.RSA,
    bits: Annotated[int, typer.Option(min=1024, max=4096, help="Size of an RSA key.")] = 2048,
) -> None:
    """Make a key, write it to a file that only its owner can read, and print the record to publish."""
    from gateway.mailauth import SigningKey

    name = _name(domain, "--domain")
    own = _name(selector, "--selector")
    key, pem = _new_key(type_, bits)
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        terminal.fail(f"{out} is there already, and stays as it is")
    except (OSError, ValueError) as error:
        terminal.fail(f"{out}: {getattr(error, 'strerror', None) or error}")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        out.unlink(missing_ok=True)
        terminal.fail(f"{out}: {error.strerror}")
    typer.echo(f"{out}: {type_.value} key of {key.bits} bits\n", err=True)
    _print_record(SigningKey(domain=name, selector=own, key=key, file=str(out)))


@app.command()
def record(*, domain: Domain = "", selector: Selector = "", key: KeyFile = None, config: ConfigOption = None) -> None:
    """Print the DNS records of keys: for a zone file, and for a form on the web."""
    for number, one in enumerate(_keys(domain, selector, key, config)):
        if number:
            typer.echo("")
        _print_record(one)


@app.command()
def check(*, domain: Domain = "", selector: Selector = "", key: KeyFile = None, config: ConfigOption = None) -> None:
    """Look up the records of keys, compare them, sign and verify a sample; tell everything that is wrong.

    Exit status 1 when verifiers would refuse a signature. DNS is asked as configured.
    """
    from gateway.mailauth.published import Weight

    loaded = load_or_exit(config)
    keys = _keys(domain, selector, key, config, loaded)
    wrong = 0
    for one, found in zip(keys, asyncio.run(_check_all(loaded, keys)), strict=True):
        typer.echo(safe(f"{one.record_name}: {one.key.algorithm}, {one.key.bits} bits, {one.file}"))
        for remark in found:
            typer.echo(safe(f"  {remark.weight.value}: {remark.text}", 2000))
        if any(remark.weight is Weight.ERROR for remark in found):
            wrong += 1
        else:
            typer.echo("  ok: the record belongs to the key")
    if wrong:
        terminal.fail(f"{wrong} of {len(keys)} keys cannot be used as they are")


def _name(text: str, option: str) -> str:
    from gateway.mailauth import signing_name

    try:
        return signing_name(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no name in DNS", param_hint=option) from error


def _new_key(kind: KeyType, bits: int) -> tuple[PrivateKey, bytes]:
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from gateway.mailauth import load_private_key

    made: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if kind is KeyType.RSA:
        made = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    else:
        made = ed25519.Ed25519PrivateKey.generate()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return load_private_key(pem), pem


def _print_record(key: SigningKey) -> None:
    from gateway.mailauth.published import zone_entry

    text = key.key.record
    typer.echo(f"; for a zone file\n{zone_entry(key.record_name, text)}\n")
    typer.echo(f"; for a form: name, type, value on one line\n{key.record_name}\nTXT\n{text}")


def _keys(domain: str, selector: str, file: Path | None, config: Path | None, loaded: Loaded | None = None) -> list[SigningKey]:
    """The key of the file, or those of the configuration that the options name. Leaves with 1 when there is none."""
    from gateway.mailauth import PrivateKeyError, SigningKey, read_key_file

    named = _name(domain, "--domain") if domain else "", _name(selector, "--selector") if selector else ""
    if file is not None:
        if not all(named):
            raise typer.BadParameter("a file needs --domain and --selector beside it", param_hint="--key")
        try:
            key = read_key_file(file, is_strict=False)
        except PrivateKeyError as error:
            terminal.fail(f"{file}: {error}")
        return [SigningKey(domain=named[0], selector=named[1], key=key, file=str(file))]
    keys = _of_configuration(load_or_exit(config) if loaded is None else loaded)
    chosen = [one for one in keys if named[0] in {"", one.domain} and named[1] in {"", one.selector}]
    if not chosen:
        terminal.fail(
            "the configuration has no such key" if keys else "no plugin of the configuration signs: no [[plugin.dkim_sign.key]]"
        )
    return chosen


def _of_configuration(loaded: Loaded) -> list[SigningKey]:
    """The keys of every plugin that signs."""
    from gateway.errors import ConfigError
    from gateway.generation import Generation

    try:
        generation = asyncio.run(Generation.load(loaded.config, locate=loaded.locate, directory=loaded.directory))
    except ConfigError as error:
        exit_with(error)
    found: dict[str, SigningKey] = {}
    for one in generation.plugins.values():
        keys: tuple[SigningKey, ...] = getattr(one.plugin, "signing_keys", ())
        found |= {key.record_name: key for key in keys}
    return list(found.values())


async def _check_all(loaded: Loaded, keys: list[SigningKey]) -> list[list[Remark]]:
    from gateway.dns import CachingResolver

    resolver = CachingResolver(loaded.config.dns)
    limit = asyncio.Semaphore(20)

    async def one(key: SigningKey) -> list[Remark]:
        async with limit:
            return await _check(key, resolver)

    try:
        return list(await asyncio.gather(*(one(key) for key in keys)))
    finally:
        await resolver.close()


async def _check(key: SigningKey, resolver: Resolver) -> list[Remark]:
    """Everything there is to say about one key."""
    from gateway.errors import DnsError
    from gateway.mailauth.published import Remark, Weight, error, remarks

    try:
        answer = await resolver.query(key.record_name, "TXT")
    except DnsError as failed:
        return [error(f"DNS gives no answer: {failed.what}")]
    found: list[Remark] = []
    if answer.canonical not in {"", key.record_name}:
        found.append(Remark(Weight.NOTE, f"the name is an alias (CNAME) of {answer.canonical}"))
    if not answer.exists:
        return [*found, error("the name does not exist; `mailgateway dkim record` prints what to publish")]
    records = [b"".join(one) for one in answer.records]
    found += remarks(records, key)
    if records and not any(one.weight is Weight.ERROR for one in found):
        found += _sample(key, records[0])
    return found


def _sample(key: SigningKey, record: bytes) -> list[Remark]:
    """Sign a message and verify it, here and by a verifier that is not ours."""
    import time

    import dkim

    from gateway.content import Content
    from gateway.mailauth import KeyRefusedError, Terms, body_hashes, dkim_signature, read_key
    from gateway.mailauth.published import error, warning
    from gateway.mailauth.signing import NAME
    from gateway.message import Message

    message = Message(Content(f"From: postmaster@{key.domain}\r\nSubject: a sample\r\n\r\nText.\r\n".encode()))
    terms = Terms(signed_at=int(time.time()))
    body = body_hashes(message.octets[message.body_offset :], [terms.wanted])[terms.wanted]
    value = dkim_signature(message, key, [b"from", b"from", b"subject"], body, terms)
    signed = f"{NAME}: {value}\r\n".encode() + message.octets[:]

    def published(name: bytes, timeout: float = 0) -> bytes:  # noqa: ARG001 - dkimpy's interface
        return record

    try:
        if not read_key([record], algorithm=key.key.algorithm).verifies(key.key.sign(bytes(32)), bytes(32)):
            return [error("a sample does not verify: the signature is not the key's")]
    except KeyRefusedError as refused:
        return [error(f"a sample does not verify: {refused.reason}")]
    try:
        accepted, what = dkim.DKIM(signed).verify(0, dnsfunc=published), "signature refused"
    except Exception as fault:  # noqa: BLE001 - dkimpy raises what it likes
        accepted, what = False, f"{type(fault).__name__}: {fault}"
    return [] if accepted else [warning(f"dkimpy, which other receivers use, does not verify a sample ({what})")]

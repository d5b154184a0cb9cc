"""Private keys in files: read with bounds, and only where nobody else can read them. The file is opened once and judged by what was opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gateway.mailauth.private import PrivateKey, PrivateKeyError, load_private_key

MAX_FILE = 65_536
"""Octets of a key file."""
MINIMUM_BITS = 1024
"""RFC 8301 3.2: signers use keys of at least so many bits."""
MAXIMUM_BITS = 4096
"""What verifiers must be able to handle (RFC 8301 3.2)."""

USABLE_KEY_FILE = (
    f"a private key that only this process can read (chmod 600), RSA of {MINIMUM_BITS} to {MAXIMUM_BITS} bits or Ed25519"
)
"""For mistakes in the configuration: what `read_key_file` takes."""


def read_key_file(path: Path, *, is_strict: bool = True) -> PrivateKey:
    """The key, PEM or DER without a pass phrase. PrivateKeyError, whose text is for the operator and shows nothing of the key.

    `is_strict`: the file must be ours or root's and closed to everybody else; a file of root's may be open to its group, since that
    is how root hands it to this process.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hold the start
    except (OSError, ValueError) as error:
        raise PrivateKeyError(f"a file that cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise PrivateKeyError("no ordinary file")
        if is_strict and (objection := _exposed(state)):
            raise PrivateKeyError(objection)
        octets = os.read(descriptor, MAX_FILE + 1)
    except OSError as error:
        raise PrivateKeyError(f"a file that cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(octets) > MAX_FILE:
        raise PrivateKeyError(f"more than {MAX_FILE} octets")
    key = load_private_key(octets)
    if key.algorithm == "rsa-sha256" and not MINIMUM_BITS <= key.bits <= MAXIMUM_BITS:
        raise PrivateKeyError(f"an RSA key of {key.bits} bits; verifiers take {MINIMUM_BITS} to {MAXIMUM_BITS} (RFC 8301 3.2)")
    return key


def _exposed(state: os.stat_result) -> str:
    """Who else may have the key; `` when nobody."""
    mode = f"mode {stat.S_IMODE(state.st_mode):04o}"
    if state.st_uid not in {0, os.geteuid()}:
        return f"a file of another user (uid {state.st_uid}, we are {os.geteuid()})"
    if state.st_mode & stat.S_IRWXO:
        return f"a file that everybody may read or write ({mode})"
    allowed = stat.S_IRGRP if state.st_uid == 0 else 0
    if state.st_mode & stat.S_IRWXG & ~allowed:
        return f"a file that its group may read or write ({mode})"
    return ""

"""Key files: who may read them, how large they are, what is in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.mailauth import PrivateKeyError, read_key_file


@pytest.fixture
def make(require: Callable[[str], str], tmp_path: Path) -> Callable[..., Path]:
    """A key by the real openssl: `make("genpkey", "-algorithm", "ed25519")`."""
    openssl = require("openssl")

    def run(*words: str, mode: int = 0o600) -> Path:
        file = tmp_path / "key.pem"
        file.unlink(missing_ok=True)
        subprocess.run([openssl, *words, "-out", str(file)], check=True, capture_output=True)
        file.chmod(mode)
        return file

    return run


RSA = ("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")


def test_pkcs8_and_pkcs1_and_der_and_ed25519(make: Callable[..., Path], tmp_path: Path) -> None:
    key = read_key_file(make(*RSA))
    assert (key.algorithm, key.bits) == ("rsa-sha256", 1024)
    first = tmp_path / "first.pem"
    (tmp_path / "key.pem").rename(first)
    for words in (("-traditional",), ("-outform", "DER"), ("-outform", "DER", "-traditional")):
        assert read_key_file(make("pkey", "-in", str(first), *words)).record == key.record
    assert read_key_file(make("genpkey", "-algorithm", "ed25519")).algorithm == "ed25519-sha256"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((*RSA, "-aes256", "-pass", "pass:secret"), "pass phrase"),
        (("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:768"), "an RSA key of 768 bits"),
        (("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "neither an RSA nor an Ed25519 key"),
    ],
)
def test_keys_that_cannot_sign(make: Callable[..., Path], words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(PrivateKeyError, match=reason):
        read_key_file(make(*words))


def test_a_pass_phrase_in_der(make: Callable[..., Path], tmp_path: Path) -> None:
    plain = make(*RSA).rename(tmp_path / "plain.pem")
    with pytest.raises(PrivateKeyError, match="pass phrase"):
        read_key_file(make("pkcs8", "-topk8", "-in", str(plain), "-outform", "DER", "-passout", "pass:secret"))


def test_the_public_half_is_named_as_such(make: Callable[..., Path], tmp_path: Path) -> None:
    private = make(*RSA).rename(tmp_path / "private.pem")
    with pytest.raises(PrivateKeyError, match="a public key, not the private one"):
        read_key_file(make("pkey", "-in", str(private), "-pubout"))


@pytest.mark.parametrize(
    ("mode", "who"),
    [(0o640, "its group"), (0o620, "its group"), (0o604, "everybody"), (0o602, "everybody"), (0o444, "everybody")],
)
def test_open_to_others(make: Callable[..., Path], mode: int, who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make("genpkey", "-algorithm", "ed25519", mode=mode)
    mine = os.stat_result
    real = os.fstat

    def ours(descriptor: int) -> os.stat_result:
        state = list(real(descriptor))
        state[4] = 4711
        return mine(state)

    monkeypatch.setattr(os, "fstat", ours)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(PrivateKeyError, match=f"{who} may read or write .mode {mode:04o}"):
        read_key_file(file)
    assert read_key_file(file, is_strict=False).bits == 256


@pytest.mark.parametrize(
    ("owner", "mode", "fits"),
    [
        (4711, 0o600, True),
        (4711, 0o400, True),
        (0, 0o640, True),
        (0, 0o440, True),
        (0, 0o660, False),
        (0, 0o444, False),
        (7, 0o600, False),
    ],
)
def test_owners(make: Callable[..., Path], owner: int, mode: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make("genpkey", "-algorithm", "ed25519", mode=mode)
    real = os.fstat

    def owned(descriptor: int) -> os.stat_result:
        state = list(real(descriptor))
        state[4] = owner
        return os.stat_result(state)

    monkeypatch.setattr(os, "fstat", owned)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    if fits:
        assert read_key_file(file).bits == 256
    else:
        with pytest.raises(PrivateKeyError, match=r"may read or write|another user"):
            read_key_file(file)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PrivateKeyError, match="cannot be read: No such file"):
        read_key_file(tmp_path / "nothing")
    with pytest.raises(PrivateKeyError, match="no ordinary file"):
        read_key_file(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(PrivateKeyError, match="no ordinary file"):
        read_key_file(tmp_path / "pipe")
    with pytest.raises(PrivateKeyError, match="cannot be read"):
        read_key_file(Path("nul\0"))
    large = tmp_path / "large"
    large.write_bytes(b"x" * 65_537)
    large.chmod(0o600)
    with pytest.raises(PrivateKeyError, match="more than 65536 octets"):
        read_key_file(large)

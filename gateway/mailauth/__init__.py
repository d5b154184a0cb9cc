"""Signatures on messages: what DKIM (RFC 6376), ARC (RFC 8617) and their successors share. Public API beside `gateway`.

| module | what |
|---|---|
| `tags` | tag lists, their base64, and a list with the value of b= deleted |
| `canonical` | canonicalization of fields and bodies, body hashes |
| `fields` | which fields `h=` names, and the hash over them |
| `names` | domain names and selectors, U-labels as A-labels |
| `key` | public key records: read, bounded, used to verify |
| `private` | private keys: loaded, used to sign |
| `key_file` | private keys in files: bounded, and closed to everybody else |
| `rendering` | tag lists written as fields, folded |
| `signing` | a DKIM-Signature made |
| `published` | a key record written for a zone file, and compared with its private key |
| `scheme` | what a scheme is: it asks for keys and body hashes and comes to a result |
| `results` | Authentication-Results (RFC 8601): read, written, and whose they are |
| `arc` | ARC (RFC 8617): chains validated, sets added |
| `dmarc` | DMARC (RFC 9989): policy records read, organizations by the tree walk |
| `arriving` | body hashes of a large content, made while it arrives |
| `asking` | carries the questions of any scheme; shares body hashes among plugins |

All of it is pure and works on values, save `asking`, which waits for the resolver and the process pool it is handed, and `key_file`.
"""

from gateway.mailauth.asking import carry_out, shared_body_hashes
from gateway.mailauth.canonical import (
    BodyHash,
    BodyHashWanted,
    PrefixWanted,
    body_hashes,
    canonical_body,
    find_prefixes,
    relaxed_field,
)
from gateway.mailauth.fields import canonical_field, header_hash, own_field, select_fields
from gateway.mailauth.key import ALGORITHMS, KeyRecord, KeyRefusedError, read_key
from gateway.mailauth.key_file import USABLE_KEY_FILE, read_key_file
from gateway.mailauth.names import DomainNameError, domain_name
from gateway.mailauth.private import PrivateKey, PrivateKeyError, load_private_key, sign
from gateway.mailauth.rendering import render_tags, with_signature
from gateway.mailauth.scheme import Answers, KeyAnswer, Questions, Scheme
from gateway.mailauth.signing import SigningKey, Terms, dkim_signature, is_within, quoted_identity, signing_name
from gateway.mailauth.tags import TagListError, decode_base64, parse_tags, parts, without_value, without_white

__all__ = [
    "ALGORITHMS",
    "USABLE_KEY_FILE",
    "Answers",
    "BodyHash",
    "BodyHashWanted",
    "DomainNameError",
    "KeyAnswer",
    "KeyRecord",
    "KeyRefusedError",
    "PrefixWanted",
    "PrivateKey",
    "PrivateKeyError",
    "Questions",
    "Scheme",
    "SigningKey",
    "TagListError",
    "Terms",
    "body_hashes",
    "canonical_body",
    "canonical_field",
    "carry_out",
    "decode_base64",
    "dkim_signature",
    "domain_name",
    "find_prefixes",
    "header_hash",
    "is_within",
    "load_private_key",
    "own_field",
    "parse_tags",
    "parts",
    "quoted_identity",
    "read_key",
    "read_key_file",
    "relaxed_field",
    "render_tags",
    "select_fields",
    "shared_body_hashes",
    "sign",
    "signing_name",
    "with_signature",
    "without_value",
    "without_white",
]

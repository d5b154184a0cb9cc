"""ESMTP extensions, one small module each: what is offered, which parameters belong to it, what they may say.

The session knows none by name: it asks all of `EXTENSIONS`. A new one is one file and one line here.
"""

from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.extensions.binarymime import BINARYMIME
from gateway.smtp.extensions.chunking import CHUNKING
from gateway.smtp.extensions.dsn import DSN
from gateway.smtp.extensions.eightbitmime import EIGHTBITMIME
from gateway.smtp.extensions.enhancedstatuscodes import ENHANCEDSTATUSCODES
from gateway.smtp.extensions.pipelining import PIPELINING
from gateway.smtp.extensions.prdr import PRDR
from gateway.smtp.extensions.size import SIZE
from gateway.smtp.extensions.smtputf8 import SMTPUTF8
from gateway.smtp.extensions.starttls import STARTTLS

EXTENSIONS: tuple[Extension, ...] = (
    PIPELINING,
    SIZE,
    EIGHTBITMIME,
    SMTPUTF8,
    ENHANCEDSTATUSCODES,
    DSN,
    CHUNKING,
    BINARYMIME,
    PRDR,
    STARTTLS,
)

__all__ = ["EXTENSIONS", "Extension", "Terms"]

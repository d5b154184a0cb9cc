"""Places outside of the quarantine where plugins keep files: directories that are on the disk when that is said, and object stores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gateway.errors import OptionError, OptionMistake
from gateway.site_files import library

__all__ = ["object_store", "sync_directory"]


def sync_directory(directory: Path) -> None:
    """The names in it are on the disk (fsync(2)). Blocks. OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def object_store(url: str, endpoint: str = "") -> Any:
    """A store of the library obstore (extra `s3`) by the options `url` and `endpoint` of a plugin; `memory:` is one for tests. OptionError."""
    stores = library("obstore.store", extra="s3", key=("url",))
    config = {"endpoint": endpoint} if endpoint else None
    limits = {"timeout": "30s", "connect_timeout": "5s", "allow_http": endpoint.startswith("http://")}
    try:
        if url.startswith("memory:"):
            return stores.from_url(url)
        return stores.from_url(url, config=config, client_options=limits, retry_config={"max_retries": 2})
    except Exception as error:  # the border to a library whose errors are of many kinds
        found = str(error).partition("\n")[0]
        raise OptionError(OptionMistake(key=("url",), found=found, allowed="s3://bucket/prefix, with credentials")) from error

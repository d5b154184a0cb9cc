"""Files of a message: its attachments and what is in them, opened to limits, in a process of its own.

Nothing here raises for any input. What was too much, broken or needs a library that is not there is named in `Opened`.
"""

from gateway.files.values import File, FileBounds, Opened, Unopened

__all__ = ["File", "FileBounds", "Opened", "Unopened"]

"""The SMTP server side. Grammar, replies, states and the engine do no I/O; `server` is the border."""

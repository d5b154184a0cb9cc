"""Who the development next hop (`inbox`) knows."""

DOMAIN = "inbox.test"
MAILBOXES = ("postmaster", "alice", "bob")

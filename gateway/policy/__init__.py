"""Postfix's policy delegation: `codec`, which the plugin `policy` uses too, and the listener that answers a Postfix."""

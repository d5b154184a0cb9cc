"""DMARC aggregate reports: what the journal has collected, as RFC 9990 wants it sent. Failure reports are not sent, by design."""

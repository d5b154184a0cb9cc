"""The milter protocol of Sendmail and Postfix: the codec (no I/O, public) and the server that stands behind an MTA."""

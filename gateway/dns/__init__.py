"""DNS for plugins and routes: one shared, caching resolver for each worker (RFC 1035, 2308, 6891, 9520)."""

from gateway.dns.resolver import CachingResolver

__all__ = ["CachingResolver"]

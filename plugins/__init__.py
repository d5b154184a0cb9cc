"""Bundled plugins, one module or small package each. They import `gateway` only and have no privilege."""

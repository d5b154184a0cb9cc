"""The configuration: models, the loader that knows file and line, secrets, overrides from the environment."""

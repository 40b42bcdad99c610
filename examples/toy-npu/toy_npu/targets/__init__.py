"""The TOML files beside this module are targets."""

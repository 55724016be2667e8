"""Every way to make a container, on every kind of host: what ctrwatch tells of it (docs/support.md)."""

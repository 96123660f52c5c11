"""The embedded lab: a private containerd, an API-server stand-in and the two services."""

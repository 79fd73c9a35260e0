"""Runs a command in a container of an image, with an OCI runtime or in docker and podman."""

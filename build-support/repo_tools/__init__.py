"""A Pants backend for this project's own Python code; no part of the wheel."""

"""Views: layers mounted over one another in namespaces of their own, and commands that run inside."""

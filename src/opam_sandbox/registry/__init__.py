"""A client of OCI registries: what a push needs, and nothing else. Source: OCI distribution-spec 1.1."""

"""Makes a switch for the host's own programs out of packages' layers."""

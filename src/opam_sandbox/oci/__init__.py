"""OCI image layouts: reading, checking, and directories that many machines write to at once."""

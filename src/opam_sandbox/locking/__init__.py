"""Makes lockfiles: the only part that uses the network. A change here builds no package anew."""

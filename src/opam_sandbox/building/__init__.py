"""Makes layers: bases out of .debs, opam's root, and packages. A change of this part builds all packages anew."""

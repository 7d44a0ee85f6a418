"""Look at attention: capture queries and keys, NMI, patterns, the hybrid layer."""

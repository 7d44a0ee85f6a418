"""Unlabelled sets: sources and recipes, manifests, packed shards, the rule of duplicates."""

"""Comparing inits, data sets, protocols and label budgets: a grid of cells, each run once, and tables of them."""

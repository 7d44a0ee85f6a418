"""Labelled sets: classes, masks, pairs, statistics of labels, and a reader for each layout."""

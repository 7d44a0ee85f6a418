"""Segmentation: LL-FPN, heads, fine-tuning, evaluation, prediction."""

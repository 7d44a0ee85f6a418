"""Segmentation: LL-FPN and heads, losses, fine-tuning, windowed inference, scores."""

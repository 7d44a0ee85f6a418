"""Synthetic scenes, thermal and visible with their masks, and the sensor that takes them."""

"""What a model is shown: frames, and crops for pre-training and segmentation, in a seeded order."""

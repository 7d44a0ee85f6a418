"""Images in, tensors out: reading, manifests, mixing, segmentation folders, synthetic scenes."""

"""Pre-train, understand, fine-tune and deploy Vision Transformers for infrared semantic segmentation."""

__version__ = "0.1.0"

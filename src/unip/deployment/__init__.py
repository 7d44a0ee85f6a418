"""A trained model at work: prediction and evaluation."""

"""The loop both training programs share."""

"""Data sets: building, checking, packing, splitting and measuring them."""

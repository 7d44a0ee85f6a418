"""Bytes to pixels: decoding, conversion to 8 bits, palettes, radiometric files."""

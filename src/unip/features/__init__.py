"""Features of a frozen backbone: kept once, what is fitted to them, and duplicates by them."""

"""Reports about how ViTs look at infrared images."""

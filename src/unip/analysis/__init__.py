"""Reports about what ViTs attend to in infrared images."""

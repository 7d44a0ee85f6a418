"""What runs a model: torch for model folders, ONNX Runtime and OpenVINO for exported files."""

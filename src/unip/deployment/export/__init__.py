"""Models as files for other engines: the graph from a frame to its mask, ONNX, OpenVINO and torch archives of it."""

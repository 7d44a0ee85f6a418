"""The machine: device and precision, processes, memory, signals, CUDA graphs, seeds."""

"""NMI-HAD: distil a teacher's hybrid attention into a student."""

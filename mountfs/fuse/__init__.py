"""The adapter between the kernel (pyfuse3) and the file system proper."""

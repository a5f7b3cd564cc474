"""The file system proper: inodes, names, files, attributes. Knows no FUSE."""

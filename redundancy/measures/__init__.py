"""Measures of redundancy between two layers, one a file; the file name is the name."""

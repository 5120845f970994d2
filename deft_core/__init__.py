"""Finds wrong labels in image-classification data; everything here works without a browser."""

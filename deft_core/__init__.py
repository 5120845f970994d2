"""Finds wrong labels in image-classification data by Denoising Fine-Tuning; everything here works without a browser."""

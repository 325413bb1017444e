"""Readers of image formats that Pillow does not read, or not at their full depth."""

"""Explanations of a model's answers as a folder of pictures and tables."""

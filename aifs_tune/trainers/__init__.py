"""Trainers: what runs one trial, one epoch at a time."""

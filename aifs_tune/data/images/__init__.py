"""Folders of labelled images: scanning, checking, decoding and splitting them."""

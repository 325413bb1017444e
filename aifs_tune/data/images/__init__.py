"""Images in folders: scanning, checking, decoding and preparing them."""

"""Images in scientific formats (FITS, HDF5, NumPy, TIFF) that a manifest lists."""

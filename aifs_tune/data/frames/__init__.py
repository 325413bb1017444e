"""Scientific frames (FITS, HDF5, NumPy, TIFF) that a manifest lists."""

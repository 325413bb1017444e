"""Studies as folders that can be published: written, checked, run again, and taken into another storage."""

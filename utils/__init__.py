"""Import names that the documentation promises from a checkout. Nothing is written here; it lives in src/."""

"""Many runs in one go: strategies × levels × seeds, with what they share done once."""

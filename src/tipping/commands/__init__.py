"""The sub-commands of `tipping`, each a room. None loads torch before it has read its options."""

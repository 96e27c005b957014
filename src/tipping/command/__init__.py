"""The sub-commands of `tipping`, each a room, and what their lines share. None loads torch before its options."""

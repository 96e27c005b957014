"""The sub-commands of `tipping`, each a room, and the code they share. Options are read before torch is loaded."""

"""The jobs of the scripts: each room holds the one of the script of its name."""

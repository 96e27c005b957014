"""One command for a borrowed GPU: ``make gpu OUT=folder MINUTES=9``; docs/gpu.md says what it does."""

"""A job: its options, its network under a protocol, the results it caches, its record. Rooms are imported by name."""

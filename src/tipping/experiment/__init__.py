"""A job: its options, its network under a protocol, what is cached of it, its record; rooms are imported by name."""

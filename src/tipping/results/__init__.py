"""Results from the folders of sweeps: jobs, networks, tables, charts, tipping points. Rooms are imported by name."""

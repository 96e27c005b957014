"""The folders of sweeps, read: jobs and networks, tables, charts, tipping points; rooms are imported by name."""

"""The page of sweeps, `report.html`: sections, facets, sentences, pictures, tables. Rooms are imported by name."""

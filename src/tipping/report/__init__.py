"""The page of sweeps, `report.html`: sections, facets, sentences, pictures, tables; rooms are imported by name."""

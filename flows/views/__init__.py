"""Everything that is shown to people: terminal, Prefect artifacts, gallery."""

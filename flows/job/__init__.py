"""The job on disk: configuration, lock, control record, stages, status; no Prefect, no Ray."""

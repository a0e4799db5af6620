"""The output of a job: storage, records, commit records and manifests."""

"""The run of a job: the Prefect flow, its shards, and what watches over them."""

"""What a job will take, estimated from measured rates, and the sample that measures them."""

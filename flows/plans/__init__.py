"""Estimates of a job's cost from measured rates, and the sample that measures them."""

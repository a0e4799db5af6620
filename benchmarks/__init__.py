"""Measurements that take minutes; each is a module to run."""

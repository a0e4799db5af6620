"""`make test` tries a hundred inputs of each kind, `make test-all` 100,000 in all."""

from hypothesis import settings

settings.register_profile("thorough", max_examples=4000)

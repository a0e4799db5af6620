"""`make test` tries a hundred inputs of each kind, `--hypothesis-profile=chaos` 100,000 in all."""

from hypothesis import settings

settings.register_profile("chaos", max_examples=4000)

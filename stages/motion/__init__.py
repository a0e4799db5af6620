"""Stage 3: two neighbouring keyframes become the clip between them."""

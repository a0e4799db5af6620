"""Files of weights: fetched for nodes without a network, looked into, added to a model."""

"""Published models by name: dimensions, hub id and count of each, so that a plan needs no network.

One TOML file per series of models; models/published_models.py reads them and says what their keys mean.
"""

"""Published models by name: dimensions, hub id and source of each, so that a plan needs no network.

One TOML file per maker; `find_published` reads them. Knows no files of this machine and no hub.
"""

"""Models from a hub: what is in the caches of this machine, what a repository has, and its download."""

"""Parts of cpu_peers.py: the peers' environment and models, a worker for each engine, the cases, the page."""

"""An engine process that loads nothing, says that it is ready and then nothing more: as if its way out were blocked."""

import sys
import time
from pathlib import Path

import msgspec
import zmq

import farthing
from farthing.engine.process.messages import Planned, Ready, Start, encode

BUNDLED = Path(farthing.__file__).parent / "models" / "bundled"

start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start)
events = zmq.Context().socket(zmq.PUSH)
events.connect(start.events_address)
events.send(encode(Planned("an engine for tests", str(BUNDLED), 512, 2048, 16, 8192)))
events.send(encode(Ready()))
while sys.stdin.buffer.readline():
    time.sleep(1)

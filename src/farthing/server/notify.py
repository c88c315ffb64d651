"""What systemd is told about the state of the service, by the datagram socket that it names in NOTIFY_SOCKET.

Nothing happens without that variable, and nothing fails where nobody listens.
Source: sd_notify(3), whose protocol is stable.
"""

import os
import socket
from contextlib import suppress

MAX_CHARACTERS = 200


def notify(*assignments: str) -> None:
    """`notify("READY=1", "STATUS=serving")`: READY=1 once started (`Type=notify`), STOPPING=1 when it begins to end."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    message = "\n".join(" ".join(assignment.split())[:MAX_CHARACTERS] for assignment in assignments)
    abstract = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)  # a full queue must not hold up the event loop
        channel.sendto(message.encode(), abstract)

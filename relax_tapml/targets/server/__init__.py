"""The server's half of a device: its process, its handshake, and how it ended.

In comes a connection, out go TVM RPC messages and an ``ExitReport``. ``device_process`` starts a
local server process, ``relay`` forwards to a remote one, ``handshake`` lets clients in by a key,
``file_exchange`` moves large tensors between processes of one machine, ``region_calls`` calls
functions there with one message, ``timed_call`` times one, ``functions`` lists what is called
there by name, ``forward`` copies between two connections, ``exit_report`` describes how a server
ended.
"""

__all__ = [
    "device_process",
    "exit_report",
    "file_exchange",
    "forward",
    "functions",
    "handshake",
    "region_calls",
    "relay",
    "timed_call",
]

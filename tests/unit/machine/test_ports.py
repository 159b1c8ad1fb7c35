import socket

from trainyard.machine.ports import free_port, is_free


def test_a_port_is_free_until_somebody_listens_on_it() -> None:
    port = free_port()
    assert is_free(port)
    with socket.socket() as server:
        server.bind(("", port))
        server.listen()
        assert not is_free(port)
    assert is_free(port)

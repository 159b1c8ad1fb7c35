"""What goes to a node through standard input."""

import json

from trainyard.control.launchers.node_request import NodeRequest

REQUEST = NodeRequest({"KEY": "a\n'b' 中"}, "/here", "/outputs/run", None, "node-a", 29500, 1)


def test_a_request_goes_to_a_node_in_one_line() -> None:
    assert REQUEST.line().count(b"\n") == 1
    assert NodeRequest.parse(REQUEST.line()) == REQUEST


def test_a_line_is_an_object_of_json_in_ascii() -> None:
    assert REQUEST.line().isascii()
    assert json.loads(REQUEST.line()) == {
        "environment": {"KEY": "a\n'b' 中"},
        "directory": "/here",
        "run": "/outputs/run",
        "checkpoint": None,
        "master_addr": "node-a",
        "master_port": 29500,
        "node_rank": 1,
    }
    assert NodeRequest.parse(REQUEST.line().decode()) == REQUEST  # as standard input gives it

# SPDX-License-Identifier: Apache-2.0
"""Fixtures: servers of tests/tools/http_server."""
import pytest

from server import Server


@pytest.fixture
def server():
    with Server() as s:
        yield s


@pytest.fixture
def tls_server():
    with Server("--tls") as s:
        yield s

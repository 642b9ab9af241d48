"""Fixtures for the whole suite: the devices to test on, and one thread, so that numbers do not depend on the machine."""

import os

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("shared-machine", deadline=None)  # a slow neighbour is not a failure
hypothesis.settings.load_profile("shared-machine")


@pytest.fixture(autouse=True)
def one_thread():
    """Two test processes share two cores; more threads would only fight. The sanitizers want some that do."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("DCACCEL_TEST_THREADS", "1")))
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    return request.param

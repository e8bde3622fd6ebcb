"""For all tests: servers share their imports."""

from tests.support import forked

forked.install()

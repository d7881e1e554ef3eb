#!/usr/bin/env python
"""Starts $CHROMIUM with these arguments, so that it doesn't notice changes of the machine's network.

At every change of an address, as when a container starts or ends, Chromium fails the requests that are about
to connect, even to loopback, with ERR_NETWORK_CHANGED. It has no option against that. Linux tells a process
of the changes through a netlink socket, so the process may not open one.
"""

import contextlib
import errno
import os
import socket
import sys

if sys.platform == "linux":
    with contextlib.suppress(ImportError, RuntimeError):  # RuntimeError: libseccomp is not installed
        import pyseccomp

        rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        netlink = pyseccomp.Arg(0, pyseccomp.EQ, socket.AF_NETLINK)
        rules.add_rule(pyseccomp.ERRNO(errno.EACCES), "socket", netlink)
        rules.load()
os.execvp(os.environ["CHROMIUM"], [os.environ["CHROMIUM"], *sys.argv[1:]])  # noqa: S606

"""Errors by kind: what an errno means, and what keeps a server from serving."""

from __future__ import annotations

import errno


class CannotServe(Exception):
    """The model lacks something that it needs beside its listener. The message is the one line shown to the user."""


CAPACITY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# The client was gone, or its network failed, before accept(2) returned it: see accept(2), "Error handling".
GONE_BEFORE_ACCEPT = frozenset(
    {
        errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET,
        errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM, errno.ETIMEDOUT,
    }
)  # fmt: skip


# Errors that no peer can cause: a closed descriptor, one that is no socket, a wrong argument or address.
BUGS = frozenset({errno.EBADF, errno.ENOTSOCK, errno.EINVAL, errno.EFAULT})

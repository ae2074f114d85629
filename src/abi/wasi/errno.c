/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: the kernel's numbers as WASI's, and WASI's by name. Wasmtime folds what its preview 2 layer has no
 * word for (EROFS, EXDEV, ETXTBSY, EDQUOT, ...) into EIO; here each keeps its own number. */
#include "abi/wasi/private.h"

/* clang-format off */
#define ERRNOS(X) \
    X(2BIG) X(ACCES) X(ADDRINUSE) X(ADDRNOTAVAIL) X(AFNOSUPPORT) X(AGAIN) X(ALREADY) X(BADF) \
    X(BADMSG) X(BUSY) X(CHILD) X(CONNABORTED) X(CONNREFUSED) X(CONNRESET) X(DESTADDRREQ) X(DOM) \
    X(DQUOT) X(EXIST) X(FAULT) X(FBIG) X(HOSTUNREACH) X(IDRM) X(ILSEQ) X(INPROGRESS) X(INTR) \
    X(INVAL) X(IO) X(ISCONN) X(ISDIR) X(LOOP) X(MFILE) X(MLINK) X(MSGSIZE) X(MULTIHOP) \
    X(NAMETOOLONG) X(NETDOWN) X(NETRESET) X(NETUNREACH) X(NFILE) X(NOBUFS) X(NODEV) X(NOENT) \
    X(NOEXEC) X(NOLCK) X(NOLINK) X(NOMEM) X(NOMSG) X(NOPROTOOPT) X(NOSPC) X(NOSYS) X(NOTCONN) \
    X(NOTDIR) X(NOTEMPTY) X(NOTRECOVERABLE) X(NOTSOCK) X(NOTTY) X(NXIO) X(OVERFLOW) X(OWNERDEAD) \
    X(PERM) X(PIPE) X(PROTO) X(PROTONOSUPPORT) X(PROTOTYPE) X(RANGE) X(ROFS) X(SPIPE) X(SRCH) \
    X(STALE) X(TIMEDOUT) X(TXTBSY) X(XDEV)
/* clang-format on */

int wasi_errno(int host_errno)
{
    switch (host_errno) {
    case 0:
        return WASI_SUCCESS;
#define CASE(name) \
    case E##name:  \
        return WASI_##name;
        ERRNOS(CASE)
#undef CASE
    case ECANCELED:
        return WASI_CANCELED;
    case EDEADLK:
        return WASI_DEADLK;
    case EOPNOTSUPP:
        return WASI_NOTSUP;
    default:
        return WASI_IO;
    }
}

const char *wasi_errno_name(int wasi)
{
    static const char *const names[WASI_ERRNO_END] = {
        [WASI_SUCCESS] = "0",
#define NAME(name) [WASI_##name] = "E" #name,
        ERRNOS(NAME)
#undef NAME
            [WASI_CANCELED] = "ECANCELED",
        [WASI_DEADLK] = "EDEADLK",
        [WASI_NOTSUP] = "ENOTSUP",
        [WASI_NOTCAPABLE] = "ENOTCAPABLE",
    };
    return wasi >= 0 && wasi < WASI_ERRNO_END ? names[wasi] : "?";
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Socket addresses: from text and back, and the listening sockets made of them. Names are never resolved here: a
 * resolver blocks. */
#pragma once

#include "base/str.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef struct wh_addr {
    socklen_t len;
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
} wh_addr;

#define WH_ADDR_TEXT_MAX 128

/* "127.0.0.1:80", "[::1]:80", ":80" (all addresses, both families), "127.0.0.1" with `port` as the default (-1: a port
 * must be given), or "unix:/path". -EINVAL names what was expected; host names are refused. */
int wh_addr_parse(const char *text, int port, wh_addr *ret, wh_err *err);
/* Numeric text with the port; "unix:/path" for unix sockets. */
const char *wh_addr_text(const wh_addr *addr, char out[WH_ADDR_TEXT_MAX]);
/* The address alone: "10.0.0.1", "fd00::1"; "" for unix sockets. */
const char *wh_addr_ip(const wh_addr *addr, char out[WH_ADDR_TEXT_MAX]);
int wh_addr_port(const wh_addr *addr);
void wh_addr_set_port(wh_addr *addr, uint16_t port);
bool wh_addr_eq(const wh_addr *a, const wh_addr *b);
/* What the API server's proxies accept: neither loopback, link-local, multicast nor unspecified. */
bool wh_addr_is_global_unicast(const wh_addr *addr);

/* The address that this machine uses towards the world: the source address of the default route; without one, the first
 * global address of an interface that is up, loopback last. Nothing is sent. -EADDRNOTAVAIL. */
int wh_addr_of_node(int family, wh_addr *ret, wh_err *err);

/* A bound, listening, non-blocking, close-on-exec socket. A unix socket's stale file (nobody accepts) is
 * replaced; a live one is -EADDRINUSE. `unix_mode` is the mode of a unix socket's file. */
int wh_listen(const wh_addr *addr, mode_t unix_mode, int *ret_fd, wh_err *err);
int wh_socket_local(int fd, wh_addr *ret); /* getsockname */
int wh_socket_peer(int fd, wh_addr *ret);  /* getpeername */

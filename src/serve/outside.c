/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/outside.h"

#include "base/limits.h"
#include "netd/netd.h"

#include <arpa/inet.h>
#include <sys/queue.h>

#define HIGH_BYTES (64UL << 10) /* of an answer that the guest has not read: above it reading pauses */
#define LOW_BYTES (32UL << 10)

/* A question to netd: a component's own, or a step of a connection for the HTTP client. */
typedef struct question {
    TAILQ_ENTRY(question) link;
    uint64_t token;  /* ours, towards netd */
    uint64_t theirs; /* of whoever asked us */
    bool of_client;  /* else of the component */
    bool sent;
    wh_netd_request request;
    uint16_t port;                                            /* of_client */
    struct sockaddr_storage addresses[WH_NETD_ADDRESSES_MAX]; /* of_client: still to be tried */
    size_t n_addresses, next_address;
} question;

/* Who waits for a descriptor: epoll knows each descriptor once, a guest may read and write it. */
typedef struct watched {
    LIST_ENTRY(watched) link;
    wh_outside *outside;
    wh_io io;
    uint64_t reader, writer; /* 0: nobody */
} watched;

typedef struct outgoing { /* one HTTP request of the guest */
    LIST_ENTRY(outgoing) link;
    wh_outside *outside;
    uint64_t id;
    wh_client_call *call;
    size_t unread; /* bytes of the answer that the guest has not taken */
    bool paused;
} outgoing;

struct wh_outside {
    wh_loop *loop;
    wh_netd_client *netd;
    wh_client *client;
    wh_component *component;
    wh_component_net net;
    wh_component_egress egress;
    uint64_t next_token;
    size_t n_questions;
    TAILQ_HEAD(, question) questions;
    LIST_HEAD(, watched) watches;
    LIST_HEAD(, outgoing) calls;
};

/* ---- questions to netd ---- */

static void question_free(wh_outside *o, question *q)
{
    TAILQ_REMOVE(&o->questions, q, link);
    o->n_questions--;
    free(q);
}

static void answer(wh_outside *o, question *q, int rc, int fd, const wh_netd_answer *from)
{
    uint64_t theirs = q->theirs;
    bool of_client = q->of_client;
    question_free(o, q); /* first: what follows may ask again */
    if (of_client)
        wh_client_connected(o->client, theirs, rc, fd);
    else
        wh_component_net_answer(o->component, theirs, rc, fd, from == NULL ? NULL : from->addresses,
                                from == NULL ? 0 : from->n_addresses);
}

/* -EAGAIN: it waits for an answer to another, and is sent then. */
static int send_question(wh_outside *o, question *q)
{
    int rc = wh_netd_client_ask(o->netd, &q->request);
    q->sent = rc == 0;
    return rc;
}

static question *ask(wh_outside *o, uint64_t theirs, bool of_client, const wh_netd_request *request,
                     int *ret_rc)
{
    if (o->n_questions >= WH_OUTSIDE_QUESTIONS_MAX) {
        *ret_rc = -EMFILE;
        return NULL;
    }
    o->n_questions++;
    question *q = wh_xnew(question);
    q->token = ++o->next_token;
    q->theirs = theirs;
    q->of_client = of_client;
    q->request = *request;
    q->request.token = q->token;
    TAILQ_INSERT_TAIL(&o->questions, q, link);
    int rc = send_question(o, q);
    *ret_rc = rc == -EAGAIN ? 0 : rc;
    if (*ret_rc < 0) {
        question_free(o, q);
        return NULL;
    }
    return q;
}

static void send_waiting(wh_outside *o)
{
    question *q = TAILQ_FIRST(&o->questions);
    while (q != NULL) {
        question *next = TAILQ_NEXT(q, link);
        int rc = q->sent ? 0 : send_question(o, q);
        if (rc == -EAGAIN)
            return;
        if (rc < 0) {
            answer(o, q, rc, -1, NULL);
            next = TAILQ_FIRST(&o->questions);
        }
        q = next;
    }
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
}

/* Connects to the next address of the name. False: there is none left. */
static bool try_next(wh_outside *o, question *q)
{
    if (q->next_address >= q->n_addresses)
        return false;
    q->request.op = WH_NETD_CONNECT;
    q->request.address = q->addresses[q->next_address++];
    set_port(&q->request.address, q->port);
    q->token = q->request.token = ++o->next_token;
    int rc = send_question(o, q);
    if (rc < 0 && rc != -EAGAIN)
        answer(o, q, rc, -1, NULL);
    return true;
}

static question *find_question(const wh_outside *o, uint64_t token)
{
    question *q;
    TAILQ_FOREACH(q, &o->questions, link)
    if (q->sent && q->token == token)
        return q;
    return NULL;
}

static void on_netd(void *user, uint64_t token, const wh_netd_answer *from, int fd)
{
    wh_outside *o = user;
    question *q = find_question(o, token);
    if (q == NULL) { /* cancelled meanwhile */
        if (fd >= 0)
            close(fd);
        send_waiting(o);
        return;
    }
    bool resolved = q->of_client && q->request.op == WH_NETD_RESOLVE && from->rc == 0;
    if (resolved) {
        q->n_addresses = from->n_addresses;
        memcpy(q->addresses, from->addresses, from->n_addresses * sizeof(q->addresses[0]));
    }
    bool next = resolved || (q->of_client && q->request.op == WH_NETD_CONNECT && from->rc < 0 &&
                             from->rc != -EACCES && from->rc != -ENOTCONN);
    if (!next || !try_next(o, q))
        answer(o, q, resolved ? -ENOENT : from->rc, fd, from);
    send_waiting(o);
}

/* ---- the HTTP client's connections ---- */

static void on_client_connect(void *user, uint64_t token, const char *host, uint16_t port, wh_time timeout)
{
    wh_outside *o = user;
    wh_netd_request request = {.op = WH_NETD_CONNECT, .timeout_ms = (uint32_t)(timeout / WH_MSEC)};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&request.address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&request.address;
    int rc = 0;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1)
        request.address.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1)
        request.address.ss_family = AF_INET6;
    else
        request.op = WH_NETD_RESOLVE;
    if (request.op == WH_NETD_CONNECT) {
        set_port(&request.address, port);
    } else if (strlen(host) > WH_NETD_NAME_MAX) {
        wh_client_connected(o->client, token, -ENOENT, -1);
        return;
    } else {
        memcpy(request.name, host, strlen(host) + 1);
    }
    question *q = ask(o, token, true, &request, &rc);
    if (q == NULL)
        wh_client_connected(o->client, token, rc, -1);
    else
        q->port = port;
}

static void forget_question(wh_outside *o, uint64_t theirs, bool of_client)
{
    question *q;
    TAILQ_FOREACH(q, &o->questions, link)
    if (q->theirs == theirs && q->of_client == of_client) {
        question_free(o, q);
        return;
    }
}

static void on_client_cancel(void *user, uint64_t token)
{
    forget_question(user, token, true);
}

/* ---- sockets and names of the component ---- */

static int take_address(wh_netd_request *request, const struct sockaddr *address, socklen_t n)
{
    if (n > sizeof(request->address))
        return -EINVAL;
    memcpy(&request->address, address, n);
    return 0;
}

static int on_connect(void *user, uint64_t token, const struct sockaddr *peer, socklen_t n, bool datagrams)
{
    wh_netd_request request = {.op = datagrams ? WH_NETD_UDP_CONNECT : WH_NETD_CONNECT};
    int rc = take_address(&request, peer, n);
    if (rc == 0)
        (void)ask(user, token, false, &request, &rc);
    return rc;
}

static int on_listen(void *user, uint64_t token, const struct sockaddr *local, socklen_t n, int backlog)
{
    wh_netd_request request = {.op = WH_NETD_LISTEN, .backlog = backlog};
    int rc = take_address(&request, local, n);
    if (rc == 0)
        (void)ask(user, token, false, &request, &rc);
    return rc;
}

static int on_resolve(void *user, uint64_t token, wh_str name)
{
    wh_netd_request request = {.op = WH_NETD_RESOLVE};
    int rc = 0;
    if (name.n > WH_NETD_NAME_MAX)
        return -ENOENT;
    memcpy(request.name, name.p, name.n);
    (void)ask(user, token, false, &request, &rc);
    return rc;
}

/* One answer a question: whoever was told asks again. Nothing of `w` is looked at behind the answers, which may end in
 * any of our callbacks. */
static void on_ready(wh_io *io, uint32_t ready)
{
    watched *w = io->user;
    wh_outside *o = w->outside;
    uint64_t reader = (ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 ? w->reader : 0;
    uint64_t writer = (ready & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0 ? w->writer : 0;
    if (reader != 0)
        w->reader = 0;
    if (writer != 0)
        w->writer = 0;
    if (w->reader == 0 && w->writer == 0) {
        wh_io_stop(&w->io);
        LIST_REMOVE(w, link);
        free(w);
    } else {
        wh_io_set(&w->io, w->reader != 0 ? EPOLLIN : EPOLLOUT);
    }
    if (reader != 0)
        wh_component_net_answer(o->component, reader, 0, -1, NULL, 0);
    if (writer != 0)
        wh_component_net_answer(o->component, writer, 0, -1, NULL, 0);
}

static int on_watch(void *user, uint64_t token, int fd, bool read, WH_UNUSED bool write)
{
    wh_outside *o = user;
    watched *w;
    LIST_FOREACH(w, &o->watches, link)
    if (w->io.fd == fd)
        break;
    if (w == NULL) {
        w = wh_xnew(watched);
        w->outside = o;
        int rc = wh_io_start(o->loop, &w->io, fd, read ? EPOLLIN : EPOLLOUT, on_ready, w);
        if (rc < 0) {
            free(w);
            return rc;
        }
        LIST_INSERT_HEAD(&o->watches, w, link);
    }
    if (read)
        w->reader = token;
    else
        w->writer = token;
    wh_io_set(&w->io, (w->reader != 0 ? (uint32_t)EPOLLIN : 0) | (w->writer != 0 ? (uint32_t)EPOLLOUT : 0));
    return 0;
}

static void on_cancel(void *user, uint64_t token)
{
    wh_outside *o = user;
    watched *w;
    LIST_FOREACH(w, &o->watches, link)
    if (w->reader == token || w->writer == token)
        break;
    if (w == NULL) {
        forget_question(o, token, false);
        return;
    }
    if (w->reader == token)
        w->reader = 0;
    else
        w->writer = 0;
    if (w->reader != 0 || w->writer != 0) {
        wh_io_set(&w->io, w->reader != 0 ? EPOLLIN : EPOLLOUT);
        return;
    }
    wh_io_stop(&w->io);
    LIST_REMOVE(w, link);
    free(w);
}

/* ---- outgoing HTTP ---- */

/* Two rooms' names for the same thing: a header. */
_Static_assert(sizeof(wh_component_field) == sizeof(wh_h1_field) &&
                   offsetof(wh_component_field, value) == offsetof(wh_h1_field, value),
               "fields of components and of HTTP have one layout");

static const wh_h1_field *http_fields(const wh_component_field *fields)
{
    return (const wh_h1_field *)(const void *)fields;
}

static const wh_component_field *component_fields(const wh_h1_field *fields)
{
    return (const wh_component_field *)(const void *)fields;
}

static wh_egress_error error_of(wh_client_error error)
{
    switch (error) {
    case WH_CLIENT_OK:
        return WH_EGRESS_OK;
    case WH_CLIENT_DENIED:
        return WH_EGRESS_DENIED;
    case WH_CLIENT_DNS:
        return WH_EGRESS_DNS;
    case WH_CLIENT_REFUSED:
        return WH_EGRESS_REFUSED;
    case WH_CLIENT_TIMEOUT:
        return WH_EGRESS_TIMEOUT;
    case WH_CLIENT_TLS:
        return WH_EGRESS_TLS;
    case WH_CLIENT_TERMINATED:
        return WH_EGRESS_TERMINATED;
    case WH_CLIENT_PROTOCOL:
        return WH_EGRESS_PROTOCOL;
    case WH_CLIENT_TOO_LARGE:
        return WH_EGRESS_TOO_LARGE;
    case WH_CLIENT_NO_MEMORY:
        break;
    }
    return WH_EGRESS_INTERNAL;
}

static outgoing *find_call(wh_outside *o, uint64_t id)
{
    outgoing *out;
    LIST_FOREACH(out, &o->calls, link)
    if (out->id == id)
        return out;
    return NULL;
}

static void call_free(outgoing *out)
{
    LIST_REMOVE(out, link);
    free(out);
}

static void on_head(WH_UNUSED wh_client_call *call, unsigned status, const wh_h1_field *fields, size_t n,
                    void *user)
{
    outgoing *out = user;
    wh_component_egress_head(out->outside->component, out->id, status, component_fields(fields), n);
}

static void on_data(wh_client_call *call, const void *p, size_t n, void *user)
{
    outgoing *out = user;
    out->unread += n;
    if (out->unread > HIGH_BYTES && !out->paused) {
        out->paused = true;
        wh_client_pause(call, true);
    }
    wh_component_egress_body(out->outside->component, out->id, p, n);
}

static void on_writable(WH_UNUSED wh_client_call *call, void *user)
{
    outgoing *out = user;
    wh_component_egress_credit(out->outside->component, out->id);
}

static void on_done(WH_UNUSED wh_client_call *call, wh_client_error error, WH_UNUSED const char *why,
                    const wh_h1_field *trailers, size_t n, void *user)
{
    outgoing *out = user;
    wh_component *component = out->outside->component;
    uint64_t id = out->id;
    call_free(out);
    wh_component_egress_end(component, id, error_of(error), component_fields(trailers), n);
}

static wh_egress_error on_begin(void *user, uint64_t id, const wh_component_head *head,
                                wh_time connect_timeout, wh_time first_byte_timeout,
                                wh_time between_bytes_timeout)
{
    static const wh_client_callbacks callbacks = {
        .on_head = on_head, .on_data = on_data, .on_writable = on_writable, .on_done = on_done};
    wh_outside *o = user;
    const wh_client_request request = {
        .method = head->method,
        .scheme = head->scheme,
        .authority = head->authority,
        .path_query = head->path_query,
        .fields = http_fields(head->fields),
        .n_fields = head->n_fields,
        .body_bytes = head->body_bytes,
        .connect_timeout = connect_timeout,
        .first_byte_timeout = first_byte_timeout,
        .between_bytes_timeout = between_bytes_timeout,
    };
    outgoing *out = wh_xnew(outgoing);
    out->outside = o;
    out->id = id;
    int rc = wh_client_start(o->client, &request, &callbacks, out, &out->call, NULL);
    if (rc < 0) {
        free(out);
        return rc == -EINVAL ? WH_EGRESS_PROTOCOL : WH_EGRESS_INTERNAL;
    }
    LIST_INSERT_HEAD(&o->calls, out, link);
    return WH_EGRESS_OK;
}

/* What is no longer wanted is taken and dropped: the call's end says why. */
static bool on_body(void *user, uint64_t id, const void *p, size_t n)
{
    outgoing *out = find_call(user, id);
    return out == NULL || wh_client_write(out->call, p, n) != -EAGAIN;
}

static void on_body_end(void *user, uint64_t id, const wh_component_field *trailers, size_t n)
{
    outgoing *out = find_call(user, id);
    if (out != NULL && wh_client_end(out->call, http_fields(trailers), n) < 0)
        (void)wh_client_end(out->call, NULL, 0); /* trailers have no place behind a length */
}

static void on_consumed(void *user, uint64_t id, size_t n)
{
    outgoing *out = find_call(user, id);
    if (out == NULL)
        return;
    out->unread -= WH_MIN(n, out->unread);
    if (out->paused && out->unread <= LOW_BYTES) {
        out->paused = false;
        wh_client_pause(out->call, false);
    }
}

static void on_egress_cancel(void *user, uint64_t id)
{
    outgoing *out = find_call(user, id);
    if (out == NULL)
        return;
    wh_client_cancel(out->call);
    call_free(out);
}

/* ---- life ---- */

int wh_outside_new(wh_loop *loop, const wh_outside_options *options, wh_outside **ret, wh_err *err)
{
    wh_outside *o = wh_xnew(wh_outside);
    const wh_client_options client = {
        .connector = {.user = o, .connect = on_client_connect, .cancel = on_client_cancel},
        .ca_pem = options->ca_pem,
        .tls = options->tls,
    };
    o->loop = loop;
    TAILQ_INIT(&o->questions);
    o->net = (wh_component_net){.user = o,
                                .connect = on_connect,
                                .listen = on_listen,
                                .resolve = on_resolve,
                                .watch = on_watch,
                                .cancel = on_cancel};
    o->egress = (wh_component_egress){.user = o,
                                      .begin = on_begin,
                                      .body = on_body,
                                      .body_end = on_body_end,
                                      .consumed = on_consumed,
                                      .cancel = on_egress_cancel};
    int rc = wh_netd_client_new(loop, options->netd_fd, on_netd, o, &o->netd, err);
    if (rc == 0)
        rc = wh_client_new(loop, &client, &o->client, err);
    if (rc < 0) {
        wh_outside_free(o);
        return rc;
    }
    *ret = o;
    return 0;
}

void wh_outside_free(wh_outside *o)
{
    if (o == NULL)
        return;
    wh_client_free(o->client);
    wh_netd_client_free(o->netd);
    while (!TAILQ_EMPTY(&o->questions))
        question_free(o, TAILQ_FIRST(&o->questions));
    while (!LIST_EMPTY(&o->calls))
        call_free(LIST_FIRST(&o->calls));
    while (!LIST_EMPTY(&o->watches)) {
        watched *w = LIST_FIRST(&o->watches);
        wh_io_stop(&w->io);
        LIST_REMOVE(w, link);
        free(w);
    }
    free(o);
}

const wh_component_net *wh_outside_net(const wh_outside *o)
{
    return &o->net;
}

const wh_component_egress *wh_outside_egress(const wh_outside *o)
{
    return &o->egress;
}

void wh_outside_bind(wh_outside *o, wh_component *component)
{
    o->component = component;
}

int wh_outside_channel(wh_outside *o, int fd, wh_err *err)
{
    return wh_netd_client_set(o->netd, fd, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Every size or count that somebody else controls, by name. A limit has a test at it and one past it. */
#pragma once

#define WH_MANIFEST_BYTES_MAX (4UL << 20)       /* an OCI manifest or index */
#define WH_MANIFEST_LAYERS_MAX 512              /* layers of an image */
#define WH_INDEX_ENTRIES_MAX 256                /* entries of an index */
#define WH_REGISTRY_TEXT_BYTES_MAX (64UL << 10) /* a token response or an error body of a registry */
#define WH_CHALLENGE_BYTES_MAX 8192             /* one WWW-Authenticate field */
#define WH_DOCKER_CONFIG_BYTES_MAX (1UL << 20)  /* credentials: a docker config */
#define WH_WASM_BYTES_MAX (256UL << 20)         /* one Wasm binary */
#define WH_UNPACKED_BYTES_MAX (1UL << 30)       /* all files of an image */
#define WH_UNPACKED_FILES_MAX 100000            /* entries of an image's archives */
#define WH_UNPACKED_RATIO_MAX 200               /* unpacked bytes per packed byte */
#define WH_POD_BYTES_MAX (1UL << 20)            /* one object of a manifest, or one pod from the API server */
#define WH_YAML_BYTES_MAX (4UL << 20)           /* one manifest file */
#define WH_YAML_DEPTH_MAX 64                    /* nesting of a manifest */
#define WH_YAML_ALIASES_MAX 64                  /* aliases of a document */
#define WH_YAML_NODES_MAX 200000                /* nodes of a file, aliases expanded */
#define WH_POD_CONTAINERS_MAX 64                /* containers and init containers of a pod */
#define WH_POD_VOLUMES_MAX 64                   /* volumes of a pod */
#define WH_ENV_BYTES_MAX (1UL << 20)            /* environment and arguments of a container */
#define WH_TERMINATION_MESSAGE_MAX 4096         /* bytes of a termination message */
#define WH_KEEPER_MESSAGE_MAX (128UL << 10)     /* one message to or from the keeper */
#define WH_KEEPER_BACKLOG_BYTES_MAX (16UL << 20) /* what waits for a slow client of the keeper */
#define WH_KEEPER_CONTAINERS_MAX 32768           /* containers of one keeper, ended ones included */
#define WH_KEEPER_CLIENTS_MAX 64                 /* connections to one keeper */
#define WH_KEEPER_HELD_MAX 65536                 /* descriptors that one keeper holds by name */
#define WH_KEEPER_SOCKETS_MAX 16                 /* of them, used by one container */
#define WH_KEEPER_FDS_MAX 100                    /* descriptors of one message; the kernel stops at 253 */
#define WH_GUEST_FDS_MAX 1024                    /* open descriptors of a guest */
#define WH_GUEST_IOVECS_MAX 64                   /* buffers of one read or write; longer vectors are cut */
#define WH_GUEST_POLL_MAX 4096                   /* subscriptions of one poll */
#define WH_HTTP_HEAD_BYTES_MAX (64UL << 10)      /* request line and header fields */
#define WH_HTTP_FIELDS_MAX 100                   /* header fields */
#define WH_HTTP_BODY_BYTES_MAX (8UL << 20)       /* request body at our own APIs */
#define WH_HTTP_LINE_BYTES_MAX (16UL << 10)      /* request line */
#define WH_HTTP_CHUNK_LINE_MAX 256               /* chunk size with its extension */
#define WH_HTTP_TRAILER_BYTES_MAX (8UL << 10)    /* trailer section */
#define WH_HTTP_TRAILERS_MAX 32                  /* trailer fields */
#define WH_HTTP_PARAMS_MAX 256                   /* parameters of a query */
#define WH_HTTP_CONNECTIONS_MAX 1024             /* connections of one of our servers */
#define WH_HTTP_REQUESTS_MAX 10000               /* requests of one connection */
#define WH_HTTP_STREAM_BYTES_MAX (1UL << 20)     /* bytes of a streamed answer that wait for a slow client */
#define WH_HTTP_REPLY_BYTES_MAX (64UL << 20)     /* one whole answer of our own APIs */
#define WH_HTTP_CLIENT_CALLS_MAX 1024            /* open calls of one client */
#define WH_HTTP_INTERIM_MAX 16                   /* 1xx answers before the final one */
#define WH_WS_MESSAGE_BYTES_MAX (16UL << 20)     /* one WebSocket message, unless its owner says otherwise */
#define WH_WS_CONTROL_BYTES_MAX 125              /* data of a WebSocket control frame (RFC 6455 5.5) */
#define WH_WS_EMPTY_PIECES_MAX 16                /* empty pieces of one WebSocket message */
#define WH_KUBE_BODY_BYTES_MAX (64UL << 20)      /* one answer of the API server */
#define WH_KUBE_EVENT_BYTES_MAX (8UL << 20)      /* one line of a watch */
#define WH_KUBE_OBJECTS_MAX 200000               /* objects of one watch */
#define WH_KUBE_EVENTS_WAITING_MAX 3000          /* events for people that wait to be sent */
#define WH_KUBE_AUTH_CACHE_MAX 4096              /* remembered answers about callers */
#define WH_NETD_MESSAGE_MAX (128UL << 10)        /* one message of the agent to netd */
#define WH_NETD_PODS_MAX 32768                   /* pods of one netd */
#define WH_NETD_CHANNELS_MAX 128                 /* channels of a pod: one a container, restarts overlap */
#define WH_NETD_RULES_MAX 512                    /* egress rules of a pod */
#define WH_NETD_PORTS_MAX 512                    /* ports that a pod may listen on */
#define WH_NETD_KNOWN_MAX 128                    /* addresses that a pod's rules by host have led to */
#define WH_NETD_NODE_ADDRESSES_MAX 64            /* addresses of the node */
#define WH_NETD_TEXT_MAX (16UL << 10)            /* a pod's resolv.conf, and its hosts file */
#define WH_NETD_BACKLOG_MAX 4096                 /* of a pod's listener */
#define WH_NETD_TIMEOUT_MS_MAX 300000            /* of a pod's connect */
#define WH_OUTSIDE_QUESTIONS_MAX 1024        /* connects and look-ups of one component that are under way */
#define WH_CA_BYTES_MAX (2UL << 20)          /* the roots that a machine trusts */
#define WH_TLS_FILE_BYTES_MAX (256UL << 10)  /* a certificate with its chain, or a key */
#define WH_SERVE_ID_MAX 64                   /* bytes of a call's id that a client chose */
#define WH_SERVE_HEAD_BYTES_MAX (64UL << 10) /* header block of a CGI answer */
#define WH_SERVE_FIELDS_MAX 100              /* header fields of a guest's answer */
#define WH_SERVE_OUT_BYTES_MAX \
    (64UL << 10) /* a guest's output that waits for the client: then its writes wait */
#define WH_SERVE_IN_BYTES_MAX \
    (64UL << 10)                          /* a request's body that waits for the guest: then reading pauses */
#define WH_H2_STREAM_WINDOW 65535         /* bytes of a request body that a client may send unasked */
#define WH_H2_CONNECTION_WINDOW (1 << 20) /* the same for all streams of a connection */
#define WH_H2_STREAMS_MAX 128             /* requests at once of a connection */
#define WH_H2_CONTINUATIONS_MAX 8         /* CONTINUATION frames of a header block */
#define WH_H2_RESETS_MAX 1000             /* streams that a client may reset in one go */
#define WH_H2_RESETS_PER_SECOND 33        /* and for ever */
#define WH_H2_FLOOD_PER_SECOND 100        /* PING, SETTINGS, PRIORITY, empty DATA, errors: each */
#define WH_H2_WINDOWS_PER_SECOND 1000     /* WINDOW_UPDATE, beside ten for each DATA frame sent */

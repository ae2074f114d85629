/* SPDX-License-Identifier: Apache-2.0 */
/* Serves with a component (engine/component.h): each request gets an instance, or one that was used less than `reuse`
 * times. Guests run on the loop's thread and wait there without holding it. */
#pragma once

#include "engine/component.h"
#include "serve/serve.h"

typedef struct wh_serve_component wh_serve_component;

typedef struct wh_serve_component_config {
    wh_serve_limits limits;
    /* args, env, dirs, write, net and egress are taken from here; the rest is filled in. All it points to must outlive
     * the object. */
    wh_component_config component;
} wh_serve_component_config;

/* `code_fd` as wh_component_load has it. -ENOEXEC when the component answers no HTTP. */
int wh_serve_component_new(wh_loop *loop, wh_engine *engine, int code_fd,
                           const wh_serve_component_config *config, wh_serve_component **ret, wh_err *err);
void wh_serve_component_free(wh_serve_component *c);
void wh_serve_component_backend(wh_serve_component *c, wh_serve_backend *ret);
wh_component *wh_serve_component_of(wh_serve_component *c); /* for answers of net and egress */

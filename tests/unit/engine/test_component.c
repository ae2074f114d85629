/* SPDX-License-Identifier: Apache-2.0 */
/* Services of wasi:http 0.2 and 0.3, each test with both where they behave alike. */
#include "component_rig.h"
#include "harness.h"

static const char *const hello[] = {"hello-p2", "hello-p3"};

static void check_hello(const char *name, wh_component_kind kind)
{
    wh_comp_rig rig;
    wh_comp_client c;
    comp_init(&rig);
    comp_load(&rig, name);
    CHECK_INT(wh_component_kind_of(rig.component), ==, kind);
    wh_comp_instance *i = comp_instance(&rig);
    CHECK(wh_component_instance_free_slot(i->instance));
    client_init(&c);
    client_get(&c, i, "/");
    comp_finish(i, &c);
    CHECK_INT(c.outcome.end, ==, WH_END_OK);
    CHECK_STR(c.outcome.msg, "");
    CHECK_INT(c.status, ==, 200);
    CHECK_CONTAINS(wh_buf_str(&c.body), "ello");
    CHECK_INT(wh_component_instance_calls(i->instance), ==, 1);
    CHECK_INT(wh_component_instance_memory(i->instance), >=, 65536);
    client_done(&c);
    comp_free(i);
    comp_done(&rig);
}

TEST(hello_p2)
{
    check_hello(hello[0], WH_COMPONENT_HTTP_P2);
}

TEST(hello_p3)
{
    check_hello(hello[1], WH_COMPONENT_HTTP_P3);
}

#include "harness.h"
TEST(x)
{
    CHECK(true);
}

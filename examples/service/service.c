/* SPDX-License-Identifier: Apache-2.0 */
/* A service that logs, and crashes once: the first time it runs it dies by a trap after a few lines; the node starts it
 * again. It ends by itself after its second life, so that a demonstration ends too. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
    const char *greeting = getenv("GREETING");
    FILE *seen = fopen("/state/lives", "r");
    int lives = 0;

    if (seen != NULL) {
        if (fscanf(seen, "%d", &lives) != 1)
            lives = 0;
        fclose(seen);
    }
    seen = fopen("/state/lives", "w");
    if (seen == NULL) {
        perror("/state/lives");
        return 1;
    }
    fprintf(seen, "%d\n", lives + 1);
    fclose(seen);

    for (int i = 1; i <= 3; i++) {
        printf("%s: life %d, tick %d\n", greeting != NULL ? greeting : "service", lives + 1, i);
        fflush(stdout);
        usleep(100000);
    }
    if (lives == 0) {
        fprintf(stderr, "about to crash\n");
        __builtin_trap();
    }
    printf("ends well in life %d\n", lives + 1);
    return 0;
}

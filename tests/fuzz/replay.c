/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over its corpus and over seeded mutations of it, without libFuzzer: the same every time. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define INPUT_BYTES_MAX (1U << 20)
#define MUTATIONS_PER_INPUT 500

static uint64_t seed = 0x9E3779B97F4A7C15u;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9E3779B97F4A7C15u);

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Copies to an exact-size allocation first, so that a sanitizer sees a read past the end. */
static void run(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n == 0 ? 1 : n);

    if (copy == NULL)
        abort();
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void mutate(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n + 16);
    size_t len = n;

    if (copy == NULL)
        abort();
    memcpy(copy, data, n);
    for (uint64_t edits = 1 + next_random() % 4; edits > 0; edits--) {
        size_t at = len == 0 ? 0 : next_random() % len;
        switch (next_random() % 4) {
        case 0:
            if (len > 0)
                copy[at] = (uint8_t)next_random();
            break;
        case 1:
            if (len > 0)
                copy[at] ^= (uint8_t)(1u << (next_random() % 8));
            break;
        case 2:
            len = at;
            break;
        default:
            if (len < n + 16) {
                memmove(copy + at + 1, copy + at, len - at);
                copy[at] = (uint8_t)next_random();
                len++;
            }
            break;
        }
    }
    run(copy, len);
    free(copy);
}

static int replay_file(int dirfd, const char *name, size_t *inputs)
{
    static uint8_t data[INPUT_BYTES_MAX];
    struct stat st;
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    ssize_t n = S_ISREG(st.st_mode) ? read(fd, data, sizeof(data)) : 0;
    close(fd);
    if (!S_ISREG(st.st_mode))
        return 0;
    if (n < 0)
        return -1;
    run(data, (size_t)n);
    for (int i = 0; i < MUTATIONS_PER_INPUT; i++)
        mutate(data, (size_t)n);
    ++*inputs;
    return 0;
}

int main(int argc, char **argv)
{
    size_t inputs = 0;
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;

    if (dir == NULL) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    run((const uint8_t *)"", 0);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.' && replay_file(dirfd(dir), entry->d_name, &inputs) < 0) {
            perror(entry->d_name);
            return 1;
        }
    }
    closedir(dir);
    printf("%zu inputs\n", inputs);
    return inputs > 0 ? 0 : 1;
}
